// SPDX-License-Identifier: MIT
/// What the kernel tells about the server's process: processor time and memory, from /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace load {

/// The server behind `socket_path`: the pid in xenstored-server.pid beside the socket if that
/// process lives (a keeper owns the listener there, so the socket's own credentials name the
/// keeper), else the process that listens, as `connected_fd`'s peer credentials tell.
pid_t find_server(const std::string& socket_path, int connected_fd);

/// The pid in `<directory of socket_path>/xenstored-server.pid`; 0 if there is none that lives.
pid_t server_pid_from_file(const std::string& socket_path);

struct Memory {
  std::uint64_t rss_kib = 0;
  std::uint64_t anon_kib = 0;  ///< RssAnon: heap and stacks, without mapped files
};

/// Processor time of all the process's threads, in ns as the scheduler counts it; 0 for `pid` 0 or
/// a process that is gone.
std::uint64_t cpu_ns(pid_t pid);
Memory memory_of(pid_t pid);

/// Bytes allocated (not file sizes) to the files below `directory`; 0 if there is none.
std::uint64_t allocated_bytes(const std::string& directory);

}  // namespace load
