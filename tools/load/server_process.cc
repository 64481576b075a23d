// SPDX-License-Identifier: MIT
#include "tools/load/server_process.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <system_error>

namespace load {
namespace {

namespace fs = std::filesystem;

fs::path proc(pid_t pid) { return fs::path("/proc") / std::to_string(pid); }

}  // namespace

pid_t server_pid_from_file(const std::string& socket_path) {
  std::ifstream file(fs::path(socket_path).parent_path() / "xenstored-server.pid");
  pid_t pid = 0;
  if (!(file >> pid) || pid <= 0 || kill(pid, 0) != 0) return 0;
  return pid;
}

pid_t find_server(const std::string& socket_path, int connected_fd) {
  if (const pid_t pid = server_pid_from_file(socket_path); pid != 0) return pid;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(connected_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return 0;
  return peer.pid;
}

// /proc/<pid>/stat counts in 10 ms ticks; the first number of schedstat is the same time in ns,
// but of one thread only.
std::uint64_t cpu_ns(pid_t pid) {
  if (pid == 0) return 0;
  std::uint64_t total = 0;
  std::error_code error;
  for (const auto& thread : fs::directory_iterator(proc(pid) / "task", error)) {
    std::ifstream file(thread.path() / "schedstat");
    std::uint64_t ns = 0;
    if (file >> ns) total += ns;
  }
  return total;
}

Memory memory_of(pid_t pid) {
  Memory memory;
  if (pid == 0) return memory;
  std::ifstream file(proc(pid) / "status");
  std::string key;
  while (file >> key) {
    if (key == "VmRSS:") file >> memory.rss_kib;
    if (key == "RssAnon:") file >> memory.anon_kib;
    file.ignore(1 << 16, '\n');
  }
  return memory;
}

std::uint64_t allocated_bytes(const std::string& directory) {
  if (directory.empty()) return 0;
  std::uint64_t total = 0;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(directory, error)) {
    struct stat facts {};
    if (lstat(entry.path().c_str(), &facts) == 0) {
      total += static_cast<std::uint64_t>(facts.st_blocks) * 512;
    }
  }
  return total;
}

}  // namespace load
