// SPDX-License-Identifier: MIT
/// The area's folder: who holds it, and which of the folders in it is the state.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "journal/journal.h"
#include "journal/seal.h"
#include "journal/system.h"

namespace journal {

/// Names in the area.
inline constexpr std::string_view kStateName = "state";
inline constexpr std::string_view kUnfinishedName = "state.new";
inline constexpr std::string_view kLockName = "lock";
inline constexpr std::string_view kLoadingName = "loading";
/// Names in the state.
inline constexpr std::string_view kSealName = "seal";
inline constexpr std::string_view kDataName = "data.mdb";
inline constexpr std::string_view kEntriesName = "entries";

/// Makes the area if it is not there and takes its lock, which the process then
/// holds until the descriptor is closed (by its death at the latest). Errors:
/// kLocked, naming the holder; kSystem.
Result<Fd, OpenError> lock_area(const std::filesystem::path& area);

/// What a seal that cannot be used means for who opens the state.
OpenError::Kind open_error_kind(Seal::Misfit misfit);

/// The system's boot id, trimmed.
Result<std::string, OpenError> read_boot_id(const std::filesystem::path& file);

/// Renames the state to `state.<why>-<number>`, removes all but the three latest
/// such folders, and says so in `notes`.
Result<std::filesystem::path, OpenError> set_state_aside(const std::filesystem::path& area,
                                                         std::string_view why,
                                                         std::vector<std::string>& notes);

/// Makes an empty state of this boot. It appears under its name when complete.
Result<void, OpenError> create_state(const std::filesystem::path& area, std::string_view boot_id);

}  // namespace journal
