// SPDX-License-Identifier: MIT
// Bytes from a disk as the pieces of a history: the first byte says as which. What is
// accepted must come out of encoding again byte by byte.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "journal/git_delta.h"
#include "journal/git_pack.h"
#include "journal/git_tree.h"
#include "journal/history.h"
#include "journal/history_text.h"

namespace {

void as_entry(std::string_view bytes) {
  const auto entry = journal::decode_entry(bytes);
  if (!entry.has_value()) return;
  std::string again;
  journal::append_entry(entry.value(), again);
  if (again != bytes) std::abort();
  journal::HistoryCommit commit;
  commit.add(entry.value());
  if (journal::entry_of_message(commit.message()) != entry->number) std::abort();
}

void as_perms(std::string_view bytes) {
  const auto perms = journal::perms_of_text(bytes);
  // A number may be written with zeros before it; then the text is another.
  if (perms.has_value() && journal::perms_of_text(journal::perms_text(*perms)) != perms) {
    std::abort();
  }
}

void as_tree(std::string_view bytes) {
  if (!journal::git::is_tree(bytes)) return;
  if (journal::git::edited_tree(bytes, {}) != bytes) std::abort();
  std::string delta;
  journal::git::append_tree_delta({}, bytes, delta);
  std::string made;
  if (!journal::git::apply_delta({}, delta, SIZE_MAX, made) || made != bytes) std::abort();
}

void as_delta(std::string_view bytes) {
  std::string made;
  (void)journal::git::apply_delta("some bytes to copy from", bytes, 1 << 20, made);
  if (made.size() > 1 << 20) std::abort();
}

/// The first byte is where in the pack the object begins.
void as_pack(std::string_view bytes) {
  if (bytes.empty()) return;
  journal::git::ObjectReader reader;
  (void)reader.read({.written = bytes.substr(1), .pending = {}},
                    static_cast<std::uint8_t>(bytes[0]));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      as_entry(bytes);
      break;
    case 1:
      as_perms(bytes);
      break;
    case 2:
      as_tree(bytes);
      break;
    case 3:
      as_delta(bytes);
      break;
    default:
      as_pack(bytes);
  }
  return 0;
}
