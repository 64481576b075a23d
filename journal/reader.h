// SPDX-License-Identifier: MIT
/// Reading a state without serving it: for tools, on the area of a daemon that is
/// not running, or on a copy. Changes nothing, neither file nor lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "journal/image.h"
#include "journal/journal.h"
#include "journal/seal.h"

namespace journal {

/// What is known of a state besides its records.
struct StateFacts {
  std::string boot_id;           ///< of the boot that it was written in
  std::uint64_t commits = 0;     ///< number of the last one
  std::uint64_t last_entry = 0;  ///< of history, by that commit
  std::uint64_t bytes = 0;       ///< of the database file
  std::uint64_t pages = 0;       ///< of them in use, of kPageBytes each
};

/// Checks a state as a daemon's start does and shows its records in the same
/// order, whichever boot it is of. `state`: the area's folder with it, or one that
/// was set aside. Errors: kLocked while a daemon serves the area; the others as
/// Journal::open, and kDamaged for what Journal::load finds.
Result<StateFacts, OpenError> read_state(const std::filesystem::path& area, std::string_view state,
                                         RecordSink& sink);

/// The whole pages of a file of a state, copied: they cannot change while they are looked
/// at. Errors: kDamaged if it is missing or no file, kSystem.
Result<std::vector<std::byte>, OpenError> read_pages(const std::filesystem::path& file);

/// Checks a whole database file, and it against its seal.
Result<Image, std::string> check_state(std::span<const std::byte> file, const Seal& seal);
/// Shows the records of a checked file, as Journal::load does.
Result<void, std::string> show_state(std::span<const std::byte> file, const Image& image,
                                     RecordSink& sink);

}  // namespace journal
