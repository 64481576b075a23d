// SPDX-License-Identifier: MIT
/// The few files besides packs that make a folder a bare git repository.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "journal/files.h"
#include "journal/git_object.h"

namespace journal::git {

/// Makes the folders and `config`, as far as they are not there or differ. Without
/// HEAD (write_head) git does not take it for a repository yet.
Result<void, std::string> make_bare(const std::filesystem::path& repository);
/// Removes what we leave when killed while replacing one of these files; to be called
/// when nobody of ours can be doing so.
void remove_locks(const std::filesystem::path& repository);

bool has_head(const std::filesystem::path& repository);
/// Makes this branch the one that HEAD is.
Result<void, std::string> write_head(const std::filesystem::path& repository,
                                     std::string_view branch);

/// A branch's commit. No value: there is no such branch. Error: what is written there is no id.
Result<std::optional<ObjectId>, std::string> read_branch(const std::filesystem::path& repository,
                                                         std::string_view branch);
Result<void, std::string> write_branch(const std::filesystem::path& repository,
                                       std::string_view branch, const ObjectId& commit);
/// All that can be read.
std::vector<std::pair<std::string, ObjectId>> branches(const std::filesystem::path& repository);

}  // namespace journal::git
