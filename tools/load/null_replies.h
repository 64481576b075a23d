// SPDX-License-Identifier: MIT
/// What xs-null answers, whatever it was asked through.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "xenstored/wire.h"

namespace load {

inline std::string_view canned_reply(xenstored::Op op) {
  using namespace std::string_view_literals;
  switch (op) {
    case xenstored::Op::kRead:
      return "0123456789"sv;
    case xenstored::Op::kDirectory:
      return "a\0b\0c\0"sv;
    case xenstored::Op::kDirectoryPart:
      return "1\0a\0b\0c\0\0"sv;
    case xenstored::Op::kGetPerms:
      return "n0\0"sv;
    case xenstored::Op::kTransactionStart:
      return "1\0"sv;
    case xenstored::Op::kGetDomainPath:
      return "/local/domain/0\0"sv;
    case xenstored::Op::kIsDomainIntroduced:
      return "T\0"sv;
    default:
      return "OK\0"sv;
  }
}

inline void append_frame(std::string& out, xenstored::Header header, std::string_view payload) {
  header.len = static_cast<std::uint32_t>(payload.size());
  out.append(reinterpret_cast<const char*>(&header), sizeof header);
  out.append(payload);
}

/// Appends the replies to all whole frames of `input`; returns the bytes taken. None: these are no
/// frames.
inline std::optional<std::size_t> answer_all(std::string_view input, std::string& out) {
  std::size_t taken = 0;
  while (input.size() - taken >= sizeof(xenstored::Header)) {
    xenstored::Header header{};
    std::memcpy(&header, input.data() + taken, sizeof header);
    if (header.len > xenstored::kPayloadMax) return std::nullopt;
    if (input.size() - taken < sizeof header + header.len) break;
    const std::string_view payload = input.substr(taken + sizeof header, header.len);
    append_frame(out, header, canned_reply(static_cast<xenstored::Op>(header.type)));
    // A watch's first event carries the path and token that were asked for: the same bytes.
    if (static_cast<xenstored::Op>(header.type) == xenstored::Op::kWatch) {
      append_frame(out, {static_cast<std::uint32_t>(xenstored::Op::kWatchEvent), 0, 0, 0}, payload);
    }
    taken += sizeof header + header.len;
  }
  return taken;
}

}  // namespace load
