// SPDX-License-Identifier: MIT
/// The few ways in which the journal writes numbers and strings (FORMAT.md,
/// "Numbers"), and a reader that never leaves its bytes.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace journal {

/// A few numbers as bytes, put together on the stack: appending each by itself to
/// a string costs more than all the rest of encoding a record. The writer knows
/// that they fit.
class ShortBytes {
 public:
  void byte(std::uint8_t number) { bytes_[size_++] = static_cast<char>(number); }

  /// Seven bits a byte, lowest first, the top bit set on all but the last.
  void varint(std::uint64_t number) {
    while (number >= 0x80) {
      byte(static_cast<std::uint8_t>(number | 0x80));
      number >>= 7;
    }
    byte(static_cast<std::uint8_t>(number));
  }

  /// A count of bytes, then the number in so many bytes, highest first: compared
  /// as bytes, such numbers sort by value.
  void ordered(std::uint64_t number) {
    const int length = static_cast<int>((std::bit_width(number) + 7) / 8);
    byte(static_cast<std::uint8_t>(length));
    for (int shift = 8 * (length - 1); shift >= 0; shift -= 8) {
      byte(static_cast<std::uint8_t>(number >> shift));
    }
  }

  /// Four bytes, lowest first.
  void u32(std::uint32_t number) {
    for (int shift = 0; shift < 32; shift += 8) byte(static_cast<std::uint8_t>(number >> shift));
  }

  std::string_view view() const { return {bytes_.data(), size_}; }

 private:
  std::array<char, 64> bytes_;
  std::size_t size_ = 0;
};

inline void append_varint(std::uint64_t number, std::string& out) {
  ShortBytes bytes;
  bytes.varint(number);
  out.append(bytes.view());
}

inline void append_string(std::string_view text, std::string& out) {
  append_varint(text.size(), out);
  out.append(text);
}

/// Reads what the functions above wrote. After the first misfit `ok` is false
/// and every further read gives zero or nothing.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  /// Everything was fine and nothing is left over.
  bool done() const { return ok_ && rest_.empty(); }

  std::uint8_t byte() {
    const std::string_view one = bytes(1);
    return one.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(one[0]);
  }

  /// A number of at most `max`; a longer spelling than necessary is a misfit.
  std::uint64_t varint(std::uint64_t max = UINT64_MAX) {
    std::uint64_t number = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::uint64_t part = byte();
      if (!ok_) return 0;
      if (shift == 63 && part > 1) return fail();
      number |= (part & 0x7F) << shift;
      if (part < 0x80) {
        const bool padded = part == 0 && shift > 0;
        return padded || number > max ? fail() : number;
      }
    }
    return fail();
  }

  std::uint64_t ordered(std::uint64_t max = UINT64_MAX) {
    const std::uint8_t length = byte();
    if (length > 8) return fail();
    std::uint64_t number = 0;
    for (const char part : bytes(length)) number = number << 8 | static_cast<std::uint8_t>(part);
    if (!ok_) return 0;
    const bool padded = length != (std::bit_width(number) + 7) / 8;
    return padded || number > max ? fail() : number;
  }

  std::uint32_t u32() {
    std::uint32_t number = 0;
    int shift = 0;
    for (const char part : bytes(4)) {
      number |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(part)) << shift;
      shift += 8;
    }
    return number;
  }

  std::string_view bytes(std::size_t count) {
    if (!ok_ || count > rest_.size()) {
      fail();
      return {};
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view string(std::size_t max) { return bytes(varint(max)); }

  /// All that is left, if not more than `max`.
  std::string_view rest(std::size_t max) {
    if (rest_.size() > max) fail();
    return bytes(rest_.size());
  }

 private:
  std::uint64_t fail() {
    ok_ = false;
    return 0;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace journal
