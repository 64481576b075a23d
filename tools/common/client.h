// SPDX-License-Identifier: MIT
/// A blocking client of a xenstored's socket, for the tools that ask one. (The
/// load generator and the crash driver have their own, who share nothing with it.)
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "store/result.h"
#include "xenstored/wire.h"

namespace tools {

/// A sentence for the user.
using Problem = std::string;
template <class T>
using Result = store::Result<T, Problem>;

/// XENSTORED_PATH, or where a daemon listens by default.
std::string default_socket();

struct Reply {
  bool is_error = false;
  std::string payload;  ///< of an error its name, such as "ENOENT"
};

class Client {
 public:
  Client();
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  Result<void> connect(const std::filesystem::path& socket);
  /// Sends one request and waits for its reply, at most 10 seconds. A Problem is
  /// a daemon that does not answer.
  Result<Reply> ask(xenstored::Op op, std::string_view payload, std::uint32_t tx_id = 0);

 private:
  bool receive(void* to, std::size_t size);

  int fd_;
};

}  // namespace tools
