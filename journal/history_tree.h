// SPDX-License-Identifier: MIT
/// The store's tree as trees and blobs of git (HISTORY.md, "The tree"): making the
/// next one, making a whole one, reading one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal/git_object.h"
#include "journal/git_tree.h"
#include "journal/history.h"
#include "journal/history_directories.h"
#include "journal/history_packs.h"
#include "journal/history_repository.h"

namespace journal {

class HistoryTree {
 public:
  /// `breathe` is called every now and then in long work, so that a caller with a
  /// share to keep can sleep.
  HistoryTree(HistoryPacks& packs, std::function<void()> breathe);

  /// Adds the objects of the tree that these changes make of `root` (none: of
  /// nothing); the result is its id. Error: a change below a node that is not there,
  /// or an object that cannot be read; what was added is to be taken back then.
  Result<git::ObjectId, std::string> apply(const std::optional<git::ObjectId>& root,
                                           const NetEffect& effect);

  /// Adds the objects of a whole tree, whose nodes it is shown depth first: the root,
  /// then each node before those below it, and these before any other. Children may
  /// come in any order. Error: nodes in another order, or of `show_all` itself.
  Result<git::ObjectId, std::string> write_whole(const HistoryNodeSource& show_all);

  /// Sees to it that the segment has all objects of a tree.
  Result<void, std::string> complete(const git::ObjectId& root);

  /// Shows a tree's nodes, depth first as above. Trusts nothing of what it reads:
  /// errors are misfits, beyond any limit of a store, and the sink's own.
  Result<void, std::string> show(const git::ObjectId& root, const HistoryNodeSink& sink);

 private:
  using States = NetEffect::States;
  using Id = git::ObjectId;
  /// A directory of `write_whole` that is not finished.
  struct Open {
    std::size_t path_bytes;  ///< of the path up to here, with its '/'
    std::vector<std::pair<std::string, git::ObjectId>> children;
    git::ObjectId perms;
    std::optional<git::ObjectId> value;
  };

  Result<std::optional<Id>, std::string> apply_at(const std::string& key,
                                                  const std::optional<Id>& old,
                                                  States::const_iterator begin,
                                                  States::const_iterator end);
  Result<Directory, std::string> directory(const std::string& key, const std::optional<Id>& id);
  Id add_blob(std::string_view content);
  void add_version(Directory& directory, std::string tree);
  std::uint64_t add_whole_version(const Id& id, const std::shared_ptr<const std::string>& tree);
  Result<void, std::string> open_node(std::vector<Open>& open, std::string& path,
                                      const HistoryNode& node);
  Result<void, std::string> close_node(std::vector<Open>& open, std::string& path);
  Result<void, std::string> complete_at(const Id& id, std::size_t depth);
  Result<void, std::string> show_at(const Id& id, std::string& path, const HistoryNodeSink& sink);
  Result<std::string, std::string> read_tree(const Id& id);
  Result<void, std::string> step();

  HistoryPacks& packs_;
  std::function<void()> breathe_;
  DirectoryCache cache_;
  std::string delta_;
  /// The small tree that was last written whole, for the next to be a delta of.
  DirectoryVersions::Version model_;
  std::uint64_t model_epoch_ = 0;
  unsigned steps_ = 0;
  std::uint64_t nodes_read_ = 0;  ///< by the present `complete` or `show`
};

}  // namespace journal
