// SPDX-License-Identifier: MIT
/// Pid files.
#pragma once

#include <sys/types.h>

#include <string>

#include "store/result.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

/// A pid file that is locked while its process lives: the file of a dead process
/// is overwritten, that of a live one is not, and a reused pid deceives nobody.
class PidFile {
 public:
  PidFile() = default;
  PidFile(PidFile&&) = default;
  PidFile& operator=(PidFile&&) = default;

  /// Writes our pid. Error: a sentence for the operator. Empty `path`: no file.
  static store::Result<PidFile, std::string> take(const std::string& path);
  /// Removes the file; for an orderly end.
  void remove();

 private:
  std::string path_;
  UniqueFd fd_;
};

/// Puts `pid` into `path` in one step, so that a reader never sees half of it.
/// Returns false when it cannot.
bool write_pid(const std::string& path, pid_t pid);

}  // namespace xenstored
