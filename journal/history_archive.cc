// SPDX-License-Identifier: MIT
#include "journal/history_archive.h"

#include <algorithm>

#include "journal/git_refs.h"

namespace journal {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kShallowMax = 1 << 20;

/// The commit has no parent here, and git must not look for it.
Result<void, std::string> add_shallow(const fs::path& archive, const git::ObjectId& commit) {
  const fs::path file = archive / "shallow";
  std::string text = read_text(file, kShallowMax).value_or("");
  const std::string line = commit.hex() + "\n";
  if (text.find(line) != std::string::npos) return {};
  return replace_locked(file, text + line);
}

Result<std::string, std::string> new_branch(const fs::path& archive,
                                            const ArchivedSegment& segment) {
  // The boundary first: a branch whose history git cannot follow would be an error.
  if (segment.parent.has_value()) {
    if (auto added = add_shallow(archive, segment.first); !added.has_value()) {
      return tl::unexpected(added.error());
    }
  }
  return "from-" + segment.first.hex().substr(0, 12);
}

/// The branch that this segment continues, or a new one.
Result<std::string, std::string> branch_for(const fs::path& archive,
                                            const ArchivedSegment& segment) {
  for (const auto& [name, commit] : git::branches(archive)) {
    if (commit == segment.last || segment.parent == commit) return name;
  }
  return new_branch(archive, segment);
}

}  // namespace

Result<void, std::string> archive_segment(const fs::path& archive, const ArchivedSegment& segment) {
  if (auto made = git::make_bare(archive); !made.has_value()) return made;
  for (const fs::path& stem : segment.packs) {
    // The index last, as that is by what git finds a pack. Without .keep: here gc may
    // put all into one.
    for (const char* ending : {".pack", ".idx"}) {
      const std::string name = stem.filename().string() + ending;
      auto copied = copy_into_place(stem.string() + ending, archive / "objects" / "pack" / name);
      if (!copied.has_value()) return copied;
    }
  }
  const auto branch = branch_for(archive, segment);
  if (!branch.has_value()) return tl::unexpected(branch.error());
  auto written = git::write_branch(archive, branch.value(), segment.last);
  if (!written.has_value()) return written;
  return git::write_head(archive, branch.value());
}

}  // namespace journal
