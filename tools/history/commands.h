// SPDX-License-Identifier: MIT
/// What xs-history can be asked for, but restoring. Each prints its answer to
/// stdout; a Problem is what it could not do.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "tools/history/output.h"
#include "tools/history/repository.h"

namespace history {

struct LogOptions {
  std::string path = "/";
  std::string at = "HEAD";           ///< the newest commit to be shown
  std::optional<std::string> since;  ///< the oldest
  std::size_t count = static_cast<std::size_t>(-1);
};
/// Commits that changed something at or below a path, newest first.
Result<void> log(Repository& repository, const LogOptions& options, const Look& look);

/// One commit with all that it changed.
Result<void> show(Repository& repository, const std::string& moment, const Look& look);

/// What differs between two moments.
Result<void> diff(Repository& repository, const std::string& from, const std::string& to,
                  const std::string& path, const Look& look);

struct LsOptions {
  std::string path = "/";
  std::string at = "HEAD";
  bool has_full_paths = false;
  bool has_perms = false;
  std::optional<int> terminal_width;  ///< the lines are for one, and so wide
};
/// The tree as xenstore-ls prints that of a running daemon, but that siblings are
/// in the order of their names: that of their creation is in no tree of git's.
Result<void> ls(Repository& repository, const LsOptions& options, const Look& look);

/// For each node at and below a path: who set its value last.
Result<void> blame(Repository& repository, const std::string& path, const std::string& at,
                   const Look& look);

struct FollowOptions {
  std::string path = "/";
  std::size_t count = 10;  ///< so many commits that are there already come first
};
/// Prints commits as they come, until it is killed. JSON is an object a line.
Result<void> follow(Repository& repository, const FollowOptions& options, const Look& look);

struct ReportOptions {
  std::string file;
  std::optional<std::string> at;     ///< the moment; the tip without
  std::optional<std::string> since;  ///< of the time line
  std::size_t count = 2000;          ///< commits in the time line
};
/// Writes one page of HTML for the post-mortem of a crash.
Result<void> report(Repository& repository, const ReportOptions& options, const Look& look);

}  // namespace history
