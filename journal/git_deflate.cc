// SPDX-License-Identifier: MIT
#include "journal/git_deflate.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <new>

namespace journal::git {
namespace {

/// Up to here content is stored: as long as a stream with fixed codes, and made in
/// a fraction of the time.
constexpr std::size_t kStoredMax = 48;
constexpr int kLevel = 1;
constexpr int kWindowBits = 12;  // values and most trees are no longer; clearing less is faster
constexpr int kMemoryLevel = 4;

/// A longer content than this per byte of stream does not exist.
constexpr std::size_t kRatioMax = 1040;

Bytef* bytes_of(std::string_view text) {
  return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
}

/// A stream of one stored block (RFC 1950, RFC 1951).
void append_stored(std::string_view content, std::string& out) {
  const auto length = static_cast<std::uint16_t>(content.size());
  const std::array<std::uint8_t, 7> head = {0x78,
                                            0x01,
                                            0x01,
                                            static_cast<std::uint8_t>(length),
                                            static_cast<std::uint8_t>(length >> 8),
                                            static_cast<std::uint8_t>(~length),
                                            static_cast<std::uint8_t>(~length >> 8)};
  out.append(reinterpret_cast<const char*>(head.data()), head.size());
  out.append(content);
  const auto sum = static_cast<std::uint32_t>(
      ::adler32(1, bytes_of(content), static_cast<uInt>(content.size())));
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(sum >> shift));
}

}  // namespace

Deflater::Deflater() : stream_(std::make_unique<z_stream>()) {
  *stream_ = z_stream{};
  if (::deflateInit2(stream_.get(), kLevel, Z_DEFLATED, kWindowBits, kMemoryLevel, Z_FIXED) !=
      Z_OK) {
    throw std::bad_alloc();
  }
}

Deflater::~Deflater() { ::deflateEnd(stream_.get()); }

void Deflater::append(std::string_view content, std::string& out) {
  if (content.size() <= kStoredMax) return append_stored(content, out);
  ::deflateReset(stream_.get());
  const std::size_t begin = out.size();
  const auto size = static_cast<uLong>(content.size());
  out.resize(begin + ::deflateBound(stream_.get(), size));
  stream_->next_in = bytes_of(content);
  stream_->avail_in = static_cast<uInt>(size);
  stream_->next_out = bytes_of(std::string_view(out).substr(begin));
  stream_->avail_out = static_cast<uInt>(out.size() - begin);
  ::deflate(stream_.get(), Z_FINISH);  // cannot fail: the room is deflateBound's
  out.resize(out.size() - stream_->avail_out);
}

Inflater::Inflater() : stream_(std::make_unique<z_stream>()) {
  *stream_ = z_stream{};
  if (::inflateInit(stream_.get()) != Z_OK) throw std::bad_alloc();
}

Inflater::~Inflater() { ::inflateEnd(stream_.get()); }

bool Inflater::inflate(std::string_view bytes, std::size_t size, std::string& out,
                       std::size_t* used) {
  // Asked before memory is: a damaged size must not cost gigabytes.
  if (size / kRatioMax > bytes.size()) return false;
  ::inflateReset(stream_.get());
  out.resize(size + 1);  // room for a byte too many, which is how one is noticed
  stream_->next_in = bytes_of(bytes);
  stream_->avail_in = static_cast<uInt>(std::min<std::size_t>(bytes.size(), UINT32_MAX));
  stream_->next_out = bytes_of(out);
  stream_->avail_out = static_cast<uInt>(out.size());
  const int result = ::inflate(stream_.get(), Z_FINISH);
  const std::size_t made = out.size() - stream_->avail_out;
  out.resize(size);
  if (used != nullptr) *used = bytes.size() - stream_->avail_in;
  return result == Z_STREAM_END && made == size;
}

std::uint32_t crc32_of(std::string_view bytes) {
  return static_cast<std::uint32_t>(::crc32_z(0, bytes_of(bytes), bytes.size()));
}

}  // namespace journal::git
