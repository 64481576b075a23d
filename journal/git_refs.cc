// SPDX-License-Identifier: MIT
#include "journal/git_refs.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "journal/system.h"

namespace journal::git {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSmallFileMax = 4096;
constexpr std::size_t kPackedRefsMax = 1 << 20;
constexpr std::string_view kBranches = "refs/heads/";
constexpr std::string_view kLockEnding = ".lock";

/// Others' pushes have no place here, and gc is of no use: all packs are kept.
constexpr std::string_view kConfig =
    "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
    "[gc]\n\tauto = 0\n[receive]\n\tdenyNonFastForwards = true\n\tdenyDeletes = true\n";

/// Lines of packed-refs, which `git gc` makes of branches: id, name.
std::vector<std::pair<std::string, ObjectId>> packed_branches(const fs::path& repository) {
  std::vector<std::pair<std::string, ObjectId>> found;
  const auto text = read_text(repository / "packed-refs", kPackedRefsMax);
  std::string_view rest = text.has_value() ? std::string_view(*text) : std::string_view();
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.size() < 41 || !line.substr(41).starts_with(kBranches)) continue;
    const auto id = ObjectId::of_hex(line.substr(0, 40));
    if (id.has_value()) found.emplace_back(line.substr(41 + kBranches.size()), *id);
  }
  return found;
}

}  // namespace

Result<void, std::string> make_bare(const fs::path& repository) {
  if (auto made = make_folder(fs::absolute(repository).parent_path()); !made.has_value()) {
    return made;
  }
  // It has whatever guests and toolstacks have written, passwords too. Who made it before us
  // has decided otherwise.
  if (::mkdir(repository.c_str(), 0700) != 0 && errno != EEXIST) {
    return tl::unexpected(system_message("cannot make " + repository.string(), errno));
  }
  for (const char* folder : {"objects/info", "objects/pack", "refs/heads", "refs/tags"}) {
    if (auto made = make_folder(repository / folder); !made.has_value()) return made;
  }
  if (read_text(repository / "config", kSmallFileMax) == kConfig) return {};
  return replace_locked(repository / "config", kConfig);
}

void remove_locks(const fs::path& repository) {
  for (const fs::path& folder : {repository, repository / kBranches}) {
    for (const std::string& name : names_in(folder)) {
      if (name.ends_with(kLockEnding)) (void)remove_file(folder / name);
    }
  }
}

bool has_head(const fs::path& repository) {
  std::error_code ignored;
  return fs::exists(repository / "HEAD", ignored);
}

Result<void, std::string> write_head(const fs::path& repository, std::string_view branch) {
  const std::string text = "ref: " + std::string(kBranches) + std::string(branch) + "\n";
  if (read_text(repository / "HEAD", kSmallFileMax) == text) return {};
  return replace_locked(repository / "HEAD", text);
}

Result<std::optional<ObjectId>, std::string> read_branch(const fs::path& repository,
                                                         std::string_view branch) {
  const fs::path file = repository / kBranches / branch;
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(file, ignored))) {
    const auto text = read_text(file, kSmallFileMax);
    const auto id = text.has_value() && text->ends_with('\n')
                        ? ObjectId::of_hex(std::string_view(*text).substr(0, text->size() - 1))
                        : std::nullopt;
    if (!id.has_value()) return tl::unexpected(file.string() + " names no commit");
    return id;
  }
  for (const auto& [name, id] : packed_branches(repository)) {
    if (name == branch) return std::optional(id);
  }
  return std::optional<ObjectId>();
}

Result<void, std::string> write_branch(const fs::path& repository, std::string_view branch,
                                       const ObjectId& commit) {
  return replace_locked(repository / kBranches / branch, commit.hex() + "\n");
}

std::vector<std::pair<std::string, ObjectId>> branches(const fs::path& repository) {
  auto found = packed_branches(repository);
  for (const std::string& name : names_in(repository / kBranches)) {
    if (name.ends_with(kLockEnding)) continue;
    const auto id = read_branch(repository, name);
    if (!id.has_value() || !id.value().has_value()) continue;
    std::erase_if(found, [&](const auto& packed) { return packed.first == name; });
    found.emplace_back(name, *id.value());
  }
  return found;
}

}  // namespace journal::git
