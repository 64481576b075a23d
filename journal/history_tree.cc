// SPDX-License-Identifier: MIT
#include "journal/history_tree.h"

#include <algorithm>
#include <array>

#include "journal/git_delta.h"
#include "journal/history_text.h"
#include "store/path.h"

namespace journal {
namespace {

constexpr std::size_t kCacheBytes = std::size_t{8} << 20;
/// Beyond any store: a legal path has fewer names, a host's memory fewer nodes.
constexpr std::size_t kNamesMax = kNameMax / 2;
constexpr std::uint64_t kNodesMax = std::uint64_t{1} << 24;
/// Objects between two calls of `breathe`, about a millisecond.
constexpr unsigned kStepsAtATime = 100;

/// Trees up to here have few entries; a delta should save so much.
constexpr std::size_t kSmallTreeMax = 128;
constexpr std::size_t kDeltaGainMin = 16;

constexpr std::string_view kPermsName = ".perms";
constexpr std::string_view kValueName = ".value";

auto tree_failed(std::string message) { return tl::unexpected(std::move(message)); }

std::string path_of(const std::string& key) {
  return key.size() == 1 ? key : key.substr(0, key.size() - 1);
}

/// Finds entries by ascending names.
class TreeFinder {
 public:
  explicit TreeFinder(std::string_view tree) : reader_(tree), entry_(reader_.next()) {}

  std::optional<git::ObjectId> find(std::string_view name, bool is_tree) {
    int order = 1;
    while (entry_.has_value() &&
           (order = git::compare_names(entry_->name, entry_->is_tree, name, is_tree)) < 0) {
      entry_ = reader_.next();
    }
    if (!entry_.has_value() || order != 0) return std::nullopt;
    return git::ObjectId::of_bytes(entry_->id);
  }

 private:
  git::TreeReader reader_;
  std::optional<git::TreeEntry> entry_;
};

bool sorts_before(const git::TreeEdit& a, const git::TreeEdit& b) {
  return git::compare_names(a.name, a.is_tree, b.name, b.is_tree) < 0;
}

}  // namespace

HistoryTree::HistoryTree(HistoryPacks& packs, std::function<void()> breathe)
    : packs_(packs), breathe_(std::move(breathe)), cache_(kCacheBytes) {}

/// After each object of long work.
Result<void, std::string> HistoryTree::step() {
  if (++steps_ % kStepsAtATime == 0 && breathe_) breathe_();
  return packs_.spill();
}

git::ObjectId HistoryTree::add_blob(std::string_view content) {
  const Id id = git::id_of(git::Kind::kBlob, content);
  if (!packs_.segment_has(id)) packs_.add(git::Kind::kBlob, id, content);
  return id;
}

/// Adds a tree that no older version is known of. Small ones, mostly of nodes without
/// children, look like the one before them, of the same owner: the value's id apart.
std::uint64_t HistoryTree::add_whole_version(const Id& id,
                                             const std::shared_ptr<const std::string>& tree) {
  const bool is_small = tree->size() <= kSmallTreeMax;
  if (is_small && model_epoch_ == packs_.offsets_epoch()) {
    delta_.clear();
    git::append_tree_delta(*model_.tree, *tree, delta_);
    if (delta_.size() + kDeltaGainMin <= tree->size()) {
      return packs_.add_delta(id, model_.offset, delta_);
    }
  }
  const std::uint64_t offset = packs_.add(git::Kind::kTree, id, *tree);
  if (is_small) {
    model_ = {offset, tree};
    model_epoch_ = packs_.offsets_epoch();
  }
  return offset;
}

// Applying changes.

Result<git::ObjectId, std::string> HistoryTree::apply(const std::optional<Id>& root,
                                                      const NetEffect& effect) {
  const auto& states = effect.states();
  if (states.empty() && root.has_value()) return *root;
  auto id = apply_at("/", root, states.begin(), states.end());
  if (!id.has_value()) return tree_failed(id.error());
  if (!id.value().has_value()) return tree_failed("the root cannot go");
  return *id.value();
}

/// The states from `begin` to `end` are at the node `key` and below it. No id: the
/// node is gone.
Result<std::optional<git::ObjectId>, std::string> HistoryTree::apply_at(
    const std::string& key, const std::optional<Id>& old, States::const_iterator begin,
    States::const_iterator end) {
  const NetEffect::State* const own =
      begin != end && begin->first == key ? &begin->second : nullptr;
  if (own != nullptr) ++begin;
  const bool is_cleared = own != nullptr && own->is_cleared;
  const bool is_set = own != nullptr && own->is_set;
  if (!is_set && (is_cleared || !old.has_value())) {
    // What was made and removed again is a removal of what never was here.
    const auto sets = [](const auto& state) { return state.second.is_set; };
    if (std::none_of(begin, end, sets)) return std::optional<Id>();
    return tree_failed("a change below " + path_of(key) + ", which is not there");
  }

  auto node = directory(key, is_cleared ? std::nullopt : old);
  if (!node.has_value()) return tree_failed(node.error());
  const std::shared_ptr<const std::string> tree = node->tree;
  std::vector<git::TreeEdit> edits;
  TreeFinder finder(*tree);
  while (begin != end) {
    // Keys end in '/', so a child's is the beginning of all those below it.
    const std::size_t name_end = begin->first.find('/', key.size());
    const std::string child_key = begin->first.substr(0, name_end + 1);
    const auto child_end = std::find_if(
        begin, end, [&](const auto& state) { return !state.first.starts_with(child_key); });
    const auto name = std::string_view(begin->first).substr(key.size(), name_end - key.size());
    const auto child = apply_at(child_key, finder.find(name, true), begin, child_end);
    if (!child.has_value()) return tree_failed(child.error());
    edits.push_back({.name = name, .is_tree = true, .id = child.value()});
    begin = child_end;
  }
  if (is_set) {
    const auto value = own->value.empty() ? std::nullopt : std::optional(add_blob(own->value));
    for (const git::TreeEdit& edit :
         {git::TreeEdit{.name = kPermsName, .id = add_blob(perms_text(own->perms))},
          git::TreeEdit{.name = kValueName, .id = value}}) {
      edits.insert(std::upper_bound(edits.begin(), edits.end(), edit, sorts_before), edit);
    }
  }
  add_version(node.value(), git::edited_tree(*tree, edits));
  const Id id = node->id;
  cache_.put(key, std::move(node.value()));
  if (auto stepped = step(); !stepped.has_value()) return tree_failed(stepped.error());
  return std::optional(id);
}

Result<Directory, std::string> HistoryTree::directory(const std::string& key,
                                                      const std::optional<Id>& id) {
  Directory fresh;
  if (!id.has_value()) {
    fresh.tree = std::make_shared<const std::string>();
    return fresh;
  }
  if (auto known = cache_.take(key, *id)) return std::move(*known);
  auto tree = packs_.read(*id, git::Kind::kTree);
  if (!tree.has_value()) return tree_failed(tree.error());
  if (!git::is_tree(tree.value()))
    return tree_failed("the tree of " + path_of(key) + " is malformed");
  fresh.id = *id;
  fresh.tree = std::make_shared<const std::string>(std::move(tree.value()));
  return fresh;
}

/// Makes `tree` what the directory is now.
void HistoryTree::add_version(Directory& directory, std::string tree) {
  const Id id = git::id_of(git::Kind::kTree, tree);
  directory.id = id;
  directory.tree = std::make_shared<const std::string>(std::move(tree));
  if (packs_.segment_has(id)) return;

  DirectoryVersions& versions = directory.versions;
  const std::uint32_t number = versions.epoch == packs_.offsets_epoch() ? versions.count + 1 : 0;
  unsigned zeros = DirectoryVersions::kDigits - 1;
  std::optional<std::uint64_t> offset;
  if (number != 0 && number < DirectoryVersions::kCountMax) {
    zeros = 0;
    while (zeros + 1 < DirectoryVersions::kDigits && (number >> 4 * zeros & 15) == 0) ++zeros;
    const DirectoryVersions::Version& base = versions.newest[zeros];
    delta_.clear();
    git::append_tree_delta(*base.tree, *directory.tree, delta_);
    if (delta_.size() < directory.tree->size() / 2 + 8) {
      offset = packs_.add_delta(id, base.offset, delta_);
      versions.count = number;
    }
  }
  if (!offset.has_value()) {
    offset = add_whole_version(id, directory.tree);
    versions = {.epoch = packs_.offsets_epoch()};
    zeros = DirectoryVersions::kDigits - 1;
  }
  for (unsigned i = 0; i <= zeros; ++i) versions.newest[i] = {*offset, directory.tree};
}

// Writing a whole tree.

Result<git::ObjectId, std::string> HistoryTree::write_whole(const HistoryNodeSource& show_all) {
  std::vector<Open> open;
  std::string path;
  auto shown = show_all([&](const HistoryNode& node) { return open_node(open, path, node); });
  if (!shown.has_value()) return tree_failed(shown.error());
  if (open.empty()) return tree_failed("a tree without a root");
  // What closes the root hands it to a directory above it.
  open.insert(open.begin(), Open{});
  while (open.size() > 1) {
    if (auto closed = close_node(open, path); !closed.has_value())
      return tree_failed(closed.error());
  }
  return open.front().children.front().second;
}

Result<void, std::string> HistoryTree::open_node(std::vector<Open>& open, std::string& path,
                                                 const HistoryNode& node) {
  if (!store::is_node_path(node.path, kNameMax) || node.perms.empty()) {
    return tree_failed("no legal node: " + std::string(node.path));
  }
  const std::string key = node.path == "/" ? "/" : std::string(node.path) + "/";
  while (!open.empty() && !(key.size() > path.size() && key.starts_with(path))) {
    if (open.size() == 1) return tree_failed("the root is not the first, or not the only one");
    if (auto closed = close_node(open, path); !closed.has_value()) return closed;
  }
  if (key.find('/', path.size()) + 1 != key.size()) {
    return tree_failed(std::string(node.path) + " does not follow its parent");
  }
  path = key;
  open.push_back({.path_bytes = path.size(),
                  .children = {},
                  .perms = add_blob(perms_text(node.perms)),
                  .value = {}});
  if (!node.value.empty()) open.back().value = add_blob(node.value);
  return step();
}

/// Writes the last directory that is open, and enters it in the one before.
Result<void, std::string> HistoryTree::close_node(std::vector<Open>& open, std::string& path) {
  Open node = std::move(open.back());
  open.pop_back();
  std::vector<git::TreeEdit> entries;
  for (const auto& [name, id] : node.children) {
    entries.push_back({.name = name, .is_tree = true, .id = id});
  }
  entries.push_back({.name = kPermsName, .id = node.perms});
  if (node.value.has_value()) entries.push_back({.name = kValueName, .id = node.value});
  std::sort(entries.begin(), entries.end(), sorts_before);
  const auto same_name = [](const auto& a, const auto& b) { return a.name == b.name; };
  if (std::adjacent_find(entries.begin(), entries.end(), same_name) != entries.end()) {
    return tree_failed("a child of " + path + " was shown twice");
  }
  std::string tree;
  for (const git::TreeEdit& entry : entries) {
    git::append_tree_entry(entry.name, entry.is_tree, *entry.id, tree);
  }
  const std::size_t parent_bytes = open.back().path_bytes;
  std::string name = path.substr(parent_bytes, path.size() - 1 - parent_bytes);
  const Id id = git::id_of(git::Kind::kTree, tree);
  if (!packs_.segment_has(id)) {
    add_whole_version(id, std::make_shared<const std::string>(std::move(tree)));
  }
  open.back().children.emplace_back(std::move(name), id);
  path.resize(parent_bytes);
  return {};
}

// Completing a segment.

Result<void, std::string> HistoryTree::complete(const Id& root) {
  nodes_read_ = 0;
  return complete_at(root, 0);
}

/// Of a tree that all of is gone through: few bytes can be made to look like more
/// nodes than there are atoms.
Result<std::string, std::string> HistoryTree::read_tree(const Id& id) {
  if (++nodes_read_ > kNodesMax) return tree_failed("the tree is too large");
  auto tree = packs_.read(id, git::Kind::kTree);
  if (tree.has_value() && !git::is_tree(tree.value())) {
    return tree_failed("tree " + id.hex() + " is malformed");
  }
  return tree;
}

Result<void, std::string> HistoryTree::complete_at(const Id& id, std::size_t depth) {
  if (depth > kNamesMax) return tree_failed("the tree is too deep");
  auto read = read_tree(id);
  if (!read.has_value()) return tree_failed(read.error());
  const auto tree = std::make_shared<const std::string>(std::move(read.value()));
  if (!packs_.segment_has(id)) add_whole_version(id, tree);
  git::TreeReader reader(*tree);
  while (const auto entry = reader.next()) {
    const Id child = Id::of_bytes(entry->id);
    if (entry->is_tree) {
      if (auto done = complete_at(child, depth + 1); !done.has_value()) return done;
    } else if (!packs_.segment_has(child)) {
      const auto blob = packs_.read(child, git::Kind::kBlob);
      if (!blob.has_value()) return tree_failed(blob.error());
      packs_.add(git::Kind::kBlob, child, blob.value());
    }
  }
  return step();
}

// Reading.

Result<void, std::string> HistoryTree::show(const Id& root, const HistoryNodeSink& sink) {
  std::string path = "/";
  nodes_read_ = 0;
  return show_at(root, path, sink);
}

Result<void, std::string> HistoryTree::show_at(const Id& id, std::string& path,
                                               const HistoryNodeSink& sink) {
  const auto tree = read_tree(id);
  if (!tree.has_value()) return tree_failed(tree.error());

  std::string value;
  std::optional<store::Perms> perms;
  git::TreeReader reader(tree.value());
  while (const auto entry = reader.next()) {
    if (entry->is_tree) continue;
    auto blob = packs_.read(Id::of_bytes(entry->id), git::Kind::kBlob);
    if (!blob.has_value()) return tree_failed(blob.error());
    if (entry->name == kPermsName) {
      perms = perms_of_text(blob.value());
    } else if (entry->name == kValueName && blob->size() <= kValueMax) {
      value = std::move(blob.value());
    } else {
      return tree_failed("a file in " + path + " is none of a node");
    }
  }
  if (!perms.has_value()) return tree_failed(path + " has no permissions");
  auto shown = sink({.path = path, .value = value, .perms = *perms});
  if (!shown.has_value()) return shown;

  const std::size_t own_bytes = path.size();
  reader = git::TreeReader(tree.value());
  while (const auto entry = reader.next()) {
    if (!entry->is_tree) continue;
    if (own_bytes > 1) path.push_back('/');
    path += entry->name;
    if (!store::is_node_path(path, kNameMax)) return tree_failed("a name in the tree is not legal");
    auto child = show_at(Id::of_bytes(entry->id), path, sink);
    if (!child.has_value()) return child;
    path.resize(own_bytes);
  }
  return {};
}

}  // namespace journal
