// SPDX-License-Identifier: MIT
#include "journal/git_pack_writer.h"

#include <algorithm>
#include <utility>

#include "journal/files.h"

namespace journal::git {

void GrowingPack::restart(std::shared_ptr<const PackFile> written) {
  written_ = std::move(written);
  pending_.clear();
  added_.clear();
  offsets_.clear();
}

std::uint32_t GrowingPack::count() const {
  return (written_ != nullptr ? written_->count() : 0) + static_cast<std::uint32_t>(added_.size());
}

std::uint64_t GrowingPack::end() const {
  return (written_ != nullptr ? written_->body().size() : kPackHeadBytes) + pending_.size();
}

std::uint64_t GrowingPack::index_bytes() const {
  return kIndexMagic.size() + kFanoutBytes + count() * std::uint64_t{28} + 2 * kIdBytes;
}

std::optional<std::uint64_t> GrowingPack::find(const ObjectId& id) const {
  if (const auto it = offsets_.find(id); it != offsets_.end()) return it->second;
  return written_ != nullptr ? written_->find(id) : std::nullopt;
}

PackBytes GrowingPack::bytes() const {
  // A pack without a file begins as one whose head is written.
  static const std::string no_file(kPackHeadBytes, '\0');
  return {.written = written_ != nullptr ? written_->body() : std::string_view(no_file),
          .pending = pending_};
}

std::uint64_t GrowingPack::add(Kind kind, const ObjectId& id, std::string_view content) {
  const std::size_t begin = pending_.size();
  append_object_head(kind, content.size(), pending_);
  deflater_.append(content, pending_);
  return note_added(id, begin);
}

std::uint64_t GrowingPack::add_delta(const ObjectId& id, std::uint64_t base_offset,
                                     std::string_view delta) {
  const std::size_t begin = pending_.size();
  append_delta_head(delta.size(), end() - base_offset, pending_);
  deflater_.append(delta, pending_);
  return note_added(id, begin);
}

std::uint64_t GrowingPack::note_added(const ObjectId& id, std::size_t begin) {
  const std::uint64_t offset = end() - (pending_.size() - begin);
  added_.push_back({.id = id,
                    .crc = crc32_of(std::string_view(pending_).substr(begin)),
                    .offset = static_cast<std::uint32_t>(offset)});
  offsets_.emplace(id, static_cast<std::uint32_t>(offset));
  return offset;
}

void GrowingPack::rollback(const Mark& mark) {
  while (added_.size() > mark.objects) {
    offsets_.erase(added_.back().id);
    added_.pop_back();
  }
  pending_.resize(mark.bytes);
}

Result<ObjectId, std::string> GrowingPack::write(const std::filesystem::path& pack,
                                                 const std::filesystem::path& index) const {
  const std::string head = pack_head(count());
  const std::string_view old =
      written_ != nullptr ? written_->body().substr(kPackHeadBytes) : std::string_view();
  Sha1 sum;
  for (const std::string_view piece : {std::string_view(head), old, std::string_view(pending_)}) {
    sum.add(piece);
  }
  const ObjectId pack_sum = sum.finish();
  auto written = write_pieces(pack, {head, old, pending_, pack_sum.view()});
  if (!written.has_value()) return tl::unexpected(written.error());
  written = write_pieces(index, {index_of(pack_sum)});
  if (!written.has_value()) return tl::unexpected(written.error());
  return pack_sum;
}

/// What is added is merged into the index that there is: between two ids that are
/// new, whole stretches of it are copied.
std::string GrowingPack::index_of(const ObjectId& pack_sum) const {
  std::vector<Added> sorted = added_;
  std::sort(sorted.begin(), sorted.end(),
            [](const Added& a, const Added& b) { return a.id < b.id; });
  std::string ids;
  std::string crcs;
  std::string offsets;
  ids.reserve(count() * kIdBytes);
  crcs.reserve(count() * std::size_t{4});
  offsets.reserve(count() * std::size_t{4});
  std::size_t copied = 0;
  const auto copy_until = [&](std::size_t end) {
    if (written_ == nullptr) return;
    ids += written_->ids().substr(copied * kIdBytes, (end - copied) * kIdBytes);
    crcs += written_->crcs().substr(copied * 4, (end - copied) * 4);
    offsets += written_->offsets().substr(copied * 4, (end - copied) * 4);
    copied = end;
  };
  std::array<std::uint32_t, 256> added_counts{};
  for (const Added& added : sorted) {
    copy_until(written_ != nullptr ? written_->rank(added.id) : 0);
    ids += added.id.view();
    append_u32(added.crc, crcs);
    append_u32(added.offset, offsets);
    ++added_counts[static_cast<unsigned char>(added.id.bytes[0])];
  }
  copy_until(written_ != nullptr ? written_->count() : 0);

  std::string bytes(kIndexMagic);
  bytes.reserve(index_bytes());
  std::uint32_t added_total = 0;
  for (unsigned i = 0; i < 256; ++i) {
    added_total += added_counts[i];
    append_u32(added_total + (written_ != nullptr ? written_->fanout(i) : 0), bytes);
  }
  for (const std::string_view part : {std::string_view(ids), std::string_view(crcs),
                                      std::string_view(offsets), pack_sum.view()}) {
    bytes += part;
  }
  bytes += sha1(bytes).view();
  return bytes;
}

}  // namespace journal::git
