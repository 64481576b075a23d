// SPDX-License-Identifier: MIT
/// The daemon's log. Callers give a finished line (format with fmt); whatever
/// came from a client passes through escaped() first. May be called from any
/// thread. Until open() lines go to stderr.
#pragma once

#include <string>
#include <string_view>

namespace xenstored::log {

/// `where`: "stderr", "syslog" (ident xenstored, facility DAEMON) or a file name.
/// Until ready() every line goes to stderr as well, so that whoever started the
/// daemon sees why it does not come up. A file that cannot be opened is said on
/// stderr, and stderr is used in its place.
void open(const std::string& where);
/// The server serves: only the chosen place from now on.
void ready();
/// After SIGHUP: opens a log file anew (it may have been rotated away).
void reopen();

void info(std::string_view line);
void warn(std::string_view line);
void error(std::string_view line);

/// `bytes` in printable ASCII: other bytes and the backslash as \xNN, \n, \\.
std::string escaped(std::string_view bytes);

}  // namespace xenstored::log
