// SPDX-License-Identifier: MIT
#include "tests/unit/journal/history_support.h"

#include <stdlib.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <sstream>

#include "journal/history_text.h"

namespace journal::testing {
namespace {

namespace fs = std::filesystem;

/// Runs a command; its exit status.
int run(const std::string& command, std::string& output) {
  FILE* const pipe = ::popen(("( " + command + " ) 2>&1").c_str(), "r");
  std::array<char, 65536> buffer;
  while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), count);
  }
  return ::pclose(pipe);
}

std::string quoted(const fs::path& path) { return "'" + path.string() + "'"; }

}  // namespace

TestFolder::TestFolder() {
  std::string name = "/dev/shm/xs-history-test-XXXXXX";
  path_ = ::mkdtemp(name.data());
}

TestFolder::~TestFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string run(const std::string& command) {
  std::string output;
  EXPECT_EQ(run(command, output), 0) << command << "\n" << output;
  return output;
}

std::string git(const fs::path& repository, const std::string& arguments) {
  return run("git -c safe.directory='*' -C " + quoted(repository) + " " + arguments);
}

void expect_sound(const fs::path& repository) {
  EXPECT_EQ(git(repository, "fsck --strict --no-progress"), "");
}

void expect_readable(const fs::path& repository) {
  EXPECT_EQ(git(repository, "fsck --strict --no-progress --no-dangling"), "");
}

TestTree tree_by_git(const fs::path& repository, const std::string& commit) {
  TestTree tree;
  // One process for all the blobs: "<id> blob <size>\n<bytes>\n" each, in order.
  std::istringstream list(git(repository, "ls-tree -r " + commit));
  std::vector<std::string> names;
  for (std::string line; std::getline(list, line);)
    names.push_back(line.substr(line.find('\t') + 1));
  const std::string blobs = git(repository, "ls-tree -r " + commit + " | cut -c13-52 | git -C " +
                                                quoted(repository) + " cat-file --batch");
  std::size_t at = 0;
  for (const std::string& name : names) {
    const std::size_t line_end = blobs.find('\n', at);
    const std::size_t size = std::stoul(blobs.substr(at + 46, line_end - at - 46));
    const std::string bytes = blobs.substr(line_end + 1, size);
    at = line_end + 1 + size + 1;
    const std::size_t slash = name.rfind('/');
    const std::string path = "/" + (slash == std::string::npos ? "" : name.substr(0, slash));
    if (name.ends_with(".value")) {
      tree[path].value = bytes;
    } else {
      const auto perms = perms_of_text(bytes);
      EXPECT_TRUE(perms.has_value()) << name << ": " << bytes;
      tree[path].perms = perms.value_or(store::Perms());
    }
  }
  return tree;
}

TestTree tree_at_tip(HistoryRepository& repository) {
  TestTree tree;
  expect_done(repository.read_tip([&](const HistoryNode& node) -> Result<void, std::string> {
    const bool is_new =
        tree.emplace(std::string(node.path),
                     TestNode{std::string(node.value), {node.perms.begin(), node.perms.end()}})
            .second;
    EXPECT_TRUE(is_new) << node.path;
    return {};
  }));
  return tree;
}

HistoryNodeSource source_of(const TestTree& tree) {
  return [&tree](const HistoryNodeSink& sink) -> Result<void, std::string> {
    // With a '/' at their ends paths sort depth first.
    std::map<std::string, const TestNode*> sorted;
    for (const auto& [path, node] : tree) sorted[path == "/" ? path : path + "/"] = &node;
    for (const auto& [key, node] : sorted) {
      const auto path = std::string_view(key).substr(0, std::max<std::size_t>(1, key.size() - 1));
      auto shown = sink({.path = path, .value = node->value, .perms = node->perms});
      if (!shown.has_value()) return shown;
    }
    return {};
  };
}

void perform(const HistoryEntry& entry, TestTree& tree) {
  for (const HistoryChange& change : entry.changes) {
    if (!change.is_removal) {
      tree[change.path] = {change.value, change.perms};
      continue;
    }
    std::erase_if(tree, [&](const auto& node) {
      return node.first == change.path || node.first.starts_with(change.path + "/");
    });
  }
}

RandomRequests::RandomRequests(std::uint64_t seed) : random_(seed) { tree_["/"] = {}; }

std::string RandomRequests::some_path() {
  // Few names, so that paths meet; some that sort on both sides of '.' and '/'.
  static const std::array<std::string, 12> kNames = {"a",  "b", "a-b", "-x",   "0",  "local",
                                                     "a0", "Z", "@q",  "name", "_u", "a-"};
  std::string path;
  for (std::uint64_t depth = 1 + below(4); depth > 0; --depth) path += "/" + kNames[below(12)];
  return path;
}

std::string RandomRequests::some_value() {
  std::string value(below(10) == 0 ? below(kValueMax + 1) : below(12), '\0');
  const bool is_plain = below(2) == 0;
  for (char& c : value) c = static_cast<char>(is_plain ? '0' + below(10) : below(256));
  return value;
}

store::Perms RandomRequests::some_perms() {
  store::Perms perms(1 + below(3));
  for (store::PermEntry& entry : perms) {
    entry = {.domid = Domid{static_cast<std::uint16_t>(below(9))},
             .access = static_cast<store::Access>(below(4)),
             .stale = below(5) == 0};
  }
  return perms;
}

void RandomRequests::change(HistoryEntry& entry) {
  const std::string path = some_path();
  if (below(4) == 0) {
    entry.changes.push_back({.path = path, .is_removal = true});
    return;
  }
  for (std::size_t end = path.find('/', 1); end != std::string::npos;
       end = path.find('/', end + 1)) {
    const std::string parent = path.substr(0, end);
    if (!tree_.contains(parent)) entry.changes.push_back({.path = parent, .perms = some_perms()});
  }
  entry.changes.push_back({.path = path, .value = some_value(), .perms = some_perms()});
}

HistoryEntry RandomRequests::next() {
  HistoryEntry entry{.number = ++number_, .time_us = 1'763'741'111'123'456 + number_ * 1'000};
  entry.author.kind = static_cast<HistoryAuthor::Kind>(below(3));
  if (entry.author.kind == HistoryAuthor::kDomain) entry.author.domid = Domid{7};
  if (entry.author.kind == HistoryAuthor::kSocket) {
    entry.author.pid = 12;
    entry.author.command = "x<l>\n";
  }
  entry.what = below(2) == 0 ? "WRITE" : "TRANSACTION_END";
  for (std::uint64_t count = below(8) == 0 ? below(20) : 1; count > 0; --count) {
    HistoryEntry one;
    change(one);
    perform(one, tree_);
    entry.changes.insert(entry.changes.end(), one.changes.begin(), one.changes.end());
  }
  return entry;
}

std::unique_ptr<HistoryRepository> open_history(const HistoryRepository::Options& options,
                                                std::vector<std::string>* notes) {
  HistoryRepository::Options with_note = options;
  with_note.note = [notes](const std::string& line) {
    if (notes != nullptr) {
      notes->push_back(line);
    } else {
      ADD_FAILURE() << line;
    }
  };
  auto opened = HistoryRepository::open(with_note);
  if (opened.has_value()) return std::move(opened.value());
  ADD_FAILURE() << opened.error().message;
  return nullptr;
}

std::unique_ptr<HistoryRepository> begin_history(const HistoryRepository::Options& options) {
  auto repository = open_history(options);
  const TestTree root = {{"/", {}}};
  expect_done(repository->add_whole(0, 1'763'741'111'000'000, "first commit", source_of(root)));
  return repository;
}

}  // namespace journal::testing
