// SPDX-License-Identifier: MIT
/// The folder that old history is moved to: a bare git repository of its own, with
/// a branch for each unbroken line of commits (HISTORY.md, "The archive").
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "journal/files.h"
#include "journal/git_object.h"

namespace journal {

/// What is archived at a time: commits that follow each other.
struct ArchivedSegment {
  std::vector<std::filesystem::path> packs{};  ///< their paths without .pack and .idx
  git::ObjectId first{};
  std::optional<git::ObjectId> parent{};  ///< of `first`
  git::ObjectId last{};
};

/// Copies the packs and moves or makes the branch. May be done again with what was
/// archived, wholly or in part.
Result<void, std::string> archive_segment(const std::filesystem::path& archive,
                                          const ArchivedSegment& segment);

}  // namespace journal
