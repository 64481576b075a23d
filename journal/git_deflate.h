// SPDX-License-Identifier: MIT
/// zlib streams as packs hold them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct z_stream_s;

namespace journal::git {

/// Makes streams. Small ones are stored or have fixed codes: most of what history
/// writes is a few dozen bytes of ids, which do not get shorter.
class Deflater {
 public:
  Deflater();
  ~Deflater();
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  /// Appends the stream that inflates to `content`.
  void append(std::string_view content, std::string& out);

 private:
  std::unique_ptr<z_stream_s> stream_;
};

/// Reads streams, and trusts nothing of them.
class Inflater {
 public:
  Inflater();
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// Replaces `out` by what the stream at the beginning of `bytes` inflates to.
  /// False: there is no stream, or not one of exactly `size` bytes. `used`, if
  /// given, is told how many of `bytes` the stream took.
  bool inflate(std::string_view bytes, std::size_t size, std::string& out,
               std::size_t* used = nullptr);

 private:
  std::unique_ptr<z_stream_s> stream_;
};

std::uint32_t crc32_of(std::string_view bytes);

}  // namespace journal::git
