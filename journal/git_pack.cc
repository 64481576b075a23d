// SPDX-License-Identifier: MIT
#include "journal/git_pack.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "journal/bytes.h"
#include "journal/git_delta.h"

namespace journal::git {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kOffsetDelta = 6;
constexpr std::size_t kIndexHeadBytes = 8 + kFanoutBytes;

std::uint32_t u32_at(std::string_view bytes, std::size_t at) {
  std::uint32_t number = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    number = number << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  }
  return number;
}

auto damaged(std::string_view what) { return tl::unexpected(std::string(what)); }

/// What stands before an object's stream.
struct Head {
  unsigned type = 0;
  std::size_t size = 0;        ///< of what the stream inflates to
  std::uint64_t distance = 0;  ///< of a delta: how far back its base is
  std::size_t bytes = 0;       ///< of this head
};

std::optional<Head> read_head(std::string_view bytes) {
  ByteReader reader(bytes.substr(0, 32));
  Head head;
  std::uint8_t byte = reader.byte();
  head.type = byte >> 4 & 7;
  head.size = byte & 15;
  for (unsigned shift = 4; (byte & 0x80) != 0; shift += 7) {
    byte = reader.byte();
    if (shift > 32) return std::nullopt;
    head.size |= static_cast<std::size_t>(byte & 0x7F) << shift;
  }
  if (head.type == kOffsetDelta) {
    byte = reader.byte();
    head.distance = byte & 0x7F;
    while ((byte & 0x80) != 0) {
      byte = reader.byte();
      if (head.distance > UINT32_MAX) return std::nullopt;
      head.distance = (head.distance + 1) << 7 | (byte & 0x7F);
    }
  }
  if (!reader.ok() || head.size > kObjectBytesMax) return std::nullopt;
  head.bytes = std::min<std::size_t>(bytes.size(), 32) - reader.rest(32).size();
  return head;
}

Result<Mapping, std::string> map_for_reading(const fs::path& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat facts {};
  if (!fd || ::fstat(fd.get(), &facts) != 0) {
    return tl::unexpected(system_message("cannot open " + file.string(), errno));
  }
  if (!S_ISREG(facts.st_mode) || facts.st_size == 0) {
    return tl::unexpected(file.string() + " is empty or no file");
  }
  const auto size = static_cast<std::size_t>(facts.st_size);
  // Not populated: of a large history little is read.
  void* const begin = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (begin == MAP_FAILED) {
    return tl::unexpected(system_message("cannot map " + file.string(), errno));
  }
  return Mapping(begin, size);
}

std::string_view view(const Mapping& mapping) {
  return {static_cast<const char*>(mapping.begin()), mapping.size()};
}

}  // namespace

std::string_view PackBytes::from(std::uint64_t offset) const {
  if (offset < written.size()) return written.substr(offset);
  return offset - written.size() < pending.size() ? pending.substr(offset - written.size())
                                                  : std::string_view();
}

Result<Object, std::string> ObjectReader::read(const PackBytes& pack, std::uint64_t offset) {
  std::vector<std::string> deltas;
  for (;;) {
    const std::string_view bytes = pack.from(offset);
    const auto head = offset < kPackHeadBytes ? std::nullopt : read_head(bytes);
    if (!head.has_value()) return damaged("an object's head is malformed");
    if (!inflater_.inflate(bytes.substr(head->bytes), head->size, inflated_)) {
      return damaged("an object's bytes are malformed");
    }
    if (head->type != kOffsetDelta) {
      if (head->type < 1 || head->type > 3) return damaged("an object is of an unknown kind");
      Object object{static_cast<Kind>(head->type), std::move(inflated_)};
      for (auto delta = deltas.rbegin(); delta != deltas.rend(); ++delta) {
        if (!apply_delta(object.content, *delta, kObjectBytesMax, inflated_)) {
          return damaged("a delta is malformed");
        }
        object.content.swap(inflated_);
      }
      return object;
    }
    if (head->distance == 0 || head->distance > offset || deltas.size() == kChainMax) {
      return damaged("a delta has no base");
    }
    deltas.push_back(std::move(inflated_));
    offset -= head->distance;
  }
}

void append_u32(std::uint32_t number, std::string& out) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(number >> shift));
}

namespace {

void append_head(unsigned type, std::size_t size, std::string& out) {
  std::size_t byte = type << 4 | (size & 15);
  for (size >>= 4; size != 0; size >>= 7) {
    out.push_back(static_cast<char>(byte | 0x80));
    byte = size & 0x7F;
  }
  out.push_back(static_cast<char>(byte));
}

}  // namespace

void append_object_head(Kind kind, std::size_t size, std::string& out) {
  append_head(static_cast<unsigned>(kind), size, out);
}

void append_delta_head(std::size_t size, std::uint64_t distance, std::string& out) {
  append_head(kOffsetDelta, size, out);
  std::string reversed(1, static_cast<char>(distance & 0x7F));
  while ((distance >>= 7) != 0) {
    --distance;
    reversed.push_back(static_cast<char>(0x80 | (distance & 0x7F)));
  }
  out.append(reversed.rbegin(), reversed.rend());
}

std::string pack_head(std::uint32_t count) {
  std::string head("PACK\0\0\0\2", 8);
  append_u32(count, head);
  return head;
}

Result<PackFile, std::string> PackFile::open(const fs::path& stem) {
  PackFile file;
  auto pack = map_for_reading(stem.string() + ".pack");
  if (!pack.has_value()) return tl::unexpected(pack.error());
  auto index = map_for_reading(stem.string() + ".idx");
  if (!index.has_value()) return tl::unexpected(index.error());
  file.pack_ = std::move(pack.value());
  file.index_ = std::move(index.value());
  if (auto checked = file.check_form(); !checked.has_value()) {
    return tl::unexpected(stem.string() + ": " + checked.error());
  }
  return file;
}

Result<void, std::string> PackFile::check_form() {
  if (pack().size() < kPackHeadBytes + kIdBytes) return damaged("the pack is cut off");
  count_ = u32_at(pack(), 8);
  if (pack().size() > INT32_MAX || pack().substr(0, kPackHeadBytes) != pack_head(count_)) {
    return damaged("the pack is none of ours");
  }
  const std::uint64_t index_bytes = kIndexHeadBytes + count_ * std::uint64_t{28} + 2 * kIdBytes;
  if (index().size() != index_bytes || !index().starts_with(kIndexMagic)) {
    return damaged("the index is not one of this pack");
  }
  std::uint32_t before = 0;
  for (unsigned i = 0; i < 256; ++i) {
    if (fanout(i) < before || fanout(i) > count_) return damaged("the index is malformed");
    before = fanout(i);
  }
  if (before != count_) return damaged("the index is malformed");
  if (index().substr(index().size() - 2 * kIdBytes, kIdBytes) != checksum().view()) {
    return damaged("the index is not one of this pack");
  }
  return {};
}

Result<void, std::string> PackFile::verify() const {
  if (sha1(body()) != checksum()) return damaged("the pack's sum is wrong");
  const std::string_view summed = index().substr(0, index().size() - kIdBytes);
  if (sha1(summed).view() != index().substr(summed.size())) {
    return damaged("the index's sum is wrong");
  }
  for (std::uint32_t i = 1; i < count_; ++i) {
    if (id_at(i - 1) >= id_at(i)) return damaged("the index is not sorted");
  }
  return {};
}

std::string_view PackFile::pack() const { return view(pack_); }
std::string_view PackFile::index() const { return view(index_); }

/// Part of the index: so many bytes of each object stand before it.
std::string_view PackFile::column(std::size_t bytes_before, std::size_t width) const {
  return index().substr(kIndexHeadBytes + count_ * bytes_before, count_ * width);
}

std::string_view PackFile::body() const { return pack().substr(0, pack().size() - kIdBytes); }

ObjectId PackFile::checksum() const { return ObjectId::of_bytes(pack().substr(body().size())); }

std::uint32_t PackFile::fanout(unsigned first_byte) const {
  return u32_at(index(), 8 + 4 * std::size_t{first_byte});
}

std::uint32_t PackFile::rank(const ObjectId& id) const {
  const auto first = static_cast<unsigned char>(id.bytes[0]);
  std::uint32_t low = first == 0 ? 0 : fanout(first - 1U);
  std::uint32_t high = fanout(first);
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (id_at(middle) < id.view()) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

std::optional<std::uint64_t> PackFile::find(const ObjectId& id) const {
  const std::uint32_t i = rank(id);
  if (i == count_ || id_at(i) != id.view()) return std::nullopt;
  return u32_at(offsets(), std::size_t{i} * 4);
}

}  // namespace journal::git
