// SPDX-License-Identifier: MIT
#include "journal/git_delta.h"

#include <algorithm>

#include "journal/bytes.h"
#include "journal/git_tree.h"

namespace journal::git {
namespace {

constexpr std::size_t kInsertMax = 127;
/// Three bytes can say more, but git's own writers stop here.
constexpr std::size_t kCopyMax = 0x10000;
/// Shorter pieces are inserted: a copy's own bytes and the insert that it cuts in
/// two would cost as much.
constexpr std::size_t kCopyMin = 8;

/// Collects pieces that follow each other, so that they become one instruction.
class DeltaWriter {
 public:
  DeltaWriter(std::string_view from, std::string& out) : from_(from), out_(out) {}

  /// The next bytes of the result; views of `from` itself are copied.
  void copy(std::string_view piece) {
    const auto at = static_cast<std::size_t>(piece.data() - from_.data());
    if (piece.size() < kCopyMin && at != copy_end_) return insert(piece);
    if (copy_begin_ == copy_end_ || at != copy_end_) {
      flush();
      copy_begin_ = at;
    }
    flush_insert();
    copy_end_ = at + piece.size();
  }

  void insert(std::string_view piece) {
    flush_copy();
    insert_ += piece;
  }

  void flush() {
    flush_copy();
    flush_insert();
  }

 private:
  void flush_insert() {
    for (std::string_view rest = insert_; !rest.empty();) {
      const std::string_view part = rest.substr(0, kInsertMax);
      out_.push_back(static_cast<char>(part.size()));
      out_ += part;
      rest.remove_prefix(part.size());
    }
    insert_.clear();
  }

  void flush_copy() {
    for (std::size_t at = copy_begin_; at < copy_end_;) {
      const std::size_t size = std::min(copy_end_ - at, kCopyMax);
      append_copy(at, size);
      at += size;
    }
    copy_begin_ = copy_end_ = SIZE_MAX;
  }

  void append_copy(std::size_t at, std::size_t size) {
    const std::size_t head = out_.size();
    unsigned present = 0x80;
    out_.push_back('\0');
    for (unsigned i = 0; i < 4; ++i) append_byte(at >> 8 * i, 1U << i, present);
    // A size that is not there at all means 0x10000.
    const std::size_t said = size == kCopyMax ? 0 : size;
    for (unsigned i = 0; i < 2; ++i) append_byte(said >> 8 * i, 0x10U << i, present);
    out_[head] = static_cast<char>(present);
  }

  void append_byte(std::size_t number, unsigned flag, unsigned& present) {
    const auto byte = static_cast<char>(number);
    if (byte == 0) return;
    present |= flag;
    out_.push_back(byte);
  }

  std::string_view from_;
  std::string& out_;
  std::string insert_;
  std::size_t copy_begin_ = SIZE_MAX;
  std::size_t copy_end_ = SIZE_MAX;
};

/// The size at the head of a delta; ByteReader's varint, but padding is allowed.
std::size_t read_size(ByteReader& reader) {
  std::size_t size = 0;
  for (unsigned shift = 0; shift < 35; shift += 7) {
    const std::uint8_t byte = reader.byte();
    size |= static_cast<std::size_t>(byte & 0x7F) << shift;
    if (byte < 0x80) break;
  }
  return size;
}

/// The number whose bytes `flags` say are there.
std::size_t read_present(ByteReader& reader, unsigned flags) {
  std::size_t number = 0;
  for (unsigned i = 0; flags >> i != 0; ++i) {
    if ((flags >> i & 1) != 0) number |= static_cast<std::size_t>(reader.byte()) << 8 * i;
  }
  return number;
}

}  // namespace

void append_tree_delta(std::string_view from, std::string_view to, std::string& out) {
  append_varint(from.size(), out);
  append_varint(to.size(), out);
  DeltaWriter writer(from, out);
  TreeReader old_reader(from);
  TreeReader new_reader(to);
  std::optional<TreeEntry> old = old_reader.next();
  while (const auto entry = new_reader.next()) {
    int order = 1;
    while (old.has_value() &&
           (order = compare_names(old->name, old->is_tree, entry->name, entry->is_tree)) < 0) {
      old = old_reader.next();
    }
    if (!old.has_value() || order != 0) {
      writer.insert(entry->bytes);
      continue;
    }
    if (old->id == entry->id) {
      writer.copy(old->bytes);
    } else {
      writer.copy(old->bytes.substr(0, old->bytes.size() - kIdBytes));
      writer.insert(entry->id);
    }
    old = old_reader.next();
  }
  writer.flush();
}

bool apply_delta(std::string_view base, std::string_view delta, std::size_t size_max,
                 std::string& out) {
  ByteReader reader(delta);
  const std::size_t base_size = read_size(reader);
  const std::size_t size = read_size(reader);
  if (!reader.ok() || base_size != base.size() || size > size_max) return false;
  out.clear();
  out.reserve(std::min(size, base.size() + delta.size()));  // `size` is only said
  while (!reader.done()) {
    const unsigned head = reader.byte();
    std::string_view piece;
    if ((head & 0x80) != 0) {
      const std::size_t at = read_present(reader, head & 0x0F);
      const std::size_t length = read_present(reader, head >> 4 & 0x07);
      if (at > base.size()) return false;
      piece = base.substr(at, length == 0 ? kCopyMax : length);
      if (piece.size() != (length == 0 ? kCopyMax : length)) return false;
    } else {
      piece = reader.bytes(head);
    }
    // An empty piece is reserved (0) or follows a misfit.
    if (!reader.ok() || piece.empty() || out.size() + piece.size() > size) return false;
    out += piece;
  }
  return out.size() == size;
}

}  // namespace journal::git
