// SPDX-License-Identifier: MIT
/// Requests and frames of the xenstore wire as the crash driver sees them: raw
/// payloads, so that driver, checker and daemon share nothing but the numbers
/// in xenstored/wire.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "xenstored/wire.h"

namespace crash {

using xenstored::Op;

struct Request {
  Op op = Op::kRead;
  std::string payload;
  std::uint32_t tx = 0;
};

/// What came from the server: a reply, an error or a watch event.
struct Frame {
  Op type = Op::kRead;
  std::uint32_t req_id = 0;
  std::uint32_t tx = 0;
  std::string payload;
};

/// A request with one path: READ, DIRECTORY, MKDIR, RM, GET_PERMS.
Request path_request(Op op, std::string_view path, std::uint32_t tx = 0);
Request write_request(std::string_view path, std::string_view value, std::uint32_t tx = 0);
Request set_perms_request(std::string_view path, const std::vector<std::string>& perms,
                          std::uint32_t tx = 0);
Request directory_part_request(std::string_view path, std::size_t offset);
Request start_request();
Request end_request(std::uint32_t tx, bool commit);
/// WATCH or UNWATCH.
Request watch_request(Op op, std::string_view path, std::string_view token);
Request introduce_request(unsigned domid);
/// RELEASE or IS_DOMAIN_INTRODUCED.
Request domain_request(Op op, unsigned domid);
Request reset_watches_request();

/// The bytes that go on the wire.
std::string encode(const Request& request, std::uint32_t req_id);

/// The NUL-terminated strings of a payload; a rest without NUL counts as one.
std::vector<std::string> split(std::string_view payload);
/// The first string of a payload: the path of every request that has one.
std::string path_of(const Request& request);
/// The value of a WRITE.
std::string_view value_of(const Request& request);
/// "ENOENT" when `frame` is that error; empty when it is no error.
std::string error_of(const Frame& frame);

/// True for what changes the tree or the domain table when it succeeds (inside
/// a transaction: when the transaction commits).
bool changes_state(Op op);

/// One line for a person: "WRITE tx=3 /c/1/a/b | v1.17...(212 bytes)".
std::string text(const Request& request);
std::string text(const Frame& frame);
/// Bytes made printable, shortened to about 60 characters.
std::string printable(std::string_view bytes);

}  // namespace crash
