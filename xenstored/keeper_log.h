// SPDX-License-Identifier: MIT
/// The keeper's few lines of log. Not log.h: the keeper must never wait for a log
/// reader, never allocate, and hold no connection from before its fork.
#pragma once

#include <string>

namespace xenstored {

class KeeperLog {
 public:
  /// `where` as in Options::log_to. Lines also go to stderr until detached().
  explicit KeeperLog(std::string where);

  /// stderr is no longer anybody's (a daemon that is up).
  void detached() { to_stderr_ = to_stderr_ && where_ == "stderr"; }

  /// `priority`: LOG_ERR, LOG_WARNING, LOG_INFO. A line that cannot be written at
  /// once is lost.
  [[gnu::format(printf, 3, 4)]] void say(int priority, const char* format, ...);

 private:
  std::string where_;
  bool to_stderr_ = true;
};

}  // namespace xenstored
