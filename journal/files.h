// SPDX-License-Identifier: MIT
/// What is done to small files and folders, as results: written aside and renamed,
/// so that a reader finds the old or the new, wherever we die.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/result.h"

namespace journal {

using store::Result;

/// What a file takes on a tmpfs.
constexpr std::uint64_t in_pages(std::uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }
/// Of a file that is there; 0 if not.
std::uint64_t pages_of(const std::filesystem::path& file);

/// Makes the folder and those above it, unless they are there.
Result<void, std::string> make_folder(const std::filesystem::path& folder);
/// Writes a file of these pieces; one that is there is replaced in place. What
/// could not be written whole is removed again.
Result<void, std::string> write_pieces(const std::filesystem::path& file,
                                       std::initializer_list<std::string_view> pieces);
Result<void, std::string> rename_file(const std::filesystem::path& from,
                                      const std::filesystem::path& to);
/// Good also if it was not there.
Result<void, std::string> remove_file(const std::filesystem::path& file);
/// Copies, and renames the copy into its place.
Result<void, std::string> copy_into_place(const std::filesystem::path& from,
                                          const std::filesystem::path& to);
/// Of a regular file of at most `max` bytes; none otherwise.
std::optional<std::string> read_text(const std::filesystem::path& file, std::size_t max);
/// Names in a folder, sorted; none if it cannot be read.
std::vector<std::string> names_in(const std::filesystem::path& folder);

/// Replaces a file by the way of `file`.lock, which git honours and we do: while
/// somebody else holds it, waits a little; one that is older than ten seconds has
/// been forgotten and is taken over.
Result<void, std::string> replace_locked(const std::filesystem::path& file, std::string_view text);

}  // namespace journal
