// SPDX-License-Identifier: MIT
/// Reads the history that a daemon keeps in its area: a bare git repository
/// whose trees are the store's and whose commits are requests (journal/HISTORY.md, which tells the
/// format).
///
/// Nothing is written. The daemon may go on writing meanwhile: packs that it
/// replaces are looked up again, and a part of history that it drops is an end of
/// history like any other. Objects are read as they come; of trees a bounded
/// number is kept. Nothing in the repository is trusted to be as it should be, but
/// only what libgit2 makes of it is looked at.
#pragma once

#include <git2/oid.h>

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "store/result.h"

struct git_repository;
struct git_odb;

namespace history {

/// A sentence for the user.
using Problem = std::string;
template <class T>
using Result = store::Result<T, Problem>;

/// Names a git object.
struct Id {
  git_oid oid{};

  std::string hex() const;
  /// Long enough to name one commit of a million.
  std::string brief() const { return hex().substr(0, 12); }

  friend bool operator==(const Id& a, const Id& b) { return git_oid_equal(&a.oid, &b.oid) != 0; }
};

struct IdHash {
  std::size_t operator()(const Id& id) const;
};

/// Whose request a commit is: a domain, a client of the socket (then `name` is
/// its command), or the daemon itself.
struct Author {
  enum class Kind { kDomain, kSocket, kDaemon };
  Kind kind = Kind::kDaemon;
  std::string name;
  std::uint32_t domid = 0;  ///< of a domain
  std::int64_t pid = 0;     ///< of a socket's client
  std::uint32_t uid = 0;

  /// Of a commit's author; the part of `mail` before the '@' counts.
  static Author parse(std::string_view name, std::string_view mail);
  /// "domain 3", "xl (pid 1234)", "xenstored".
  std::string text() const;

  friend bool operator==(const Author&, const Author&) = default;
};

/// One line of a coalesced commit's message.
struct RequestLine {
  std::string text;  ///< all of it
  std::vector<std::string> paths;
  std::optional<Author> author;
};

struct Commit {
  Id id;
  Id tree;
  std::optional<Id> parent;  ///< none at the first one that is kept
  bool is_cut = false;       ///< what was before it was dropped
  Author author;
  std::int64_t time_us = 0;  ///< of the request, since 1970
  std::string subject;
  /// Between subject and trailers: the requests of a coalesced commit, and notes.
  std::vector<std::string> body;
  std::uint64_t first_entry = 0;  ///< 0: not told
  std::uint64_t last_entry = 0;
  std::optional<std::string> whole;  ///< why this is the whole tree and no change

  bool is_coalesced() const { return last_entry > first_entry; }
};

/// Takes a line of Commit::body apart, as far as it tells a request.
RequestLine parse_request_line(std::string_view line);

/// A node's directory.
struct Node {
  struct Child {
    std::string name;
    Id id;
  };
  std::optional<Id> value;  ///< none: empty
  std::optional<Id> perms;
  std::vector<Child> children;  ///< by name, bytewise

  const Id* child(std::string_view name) const;
};
using NodePtr = std::shared_ptr<const Node>;

class Repository {
 public:
  /// `area` is a daemon's area, or the folder of a repository itself. The
  /// sentences name it.
  static Result<std::unique_ptr<Repository>> open(const std::filesystem::path& area);
  ~Repository();
  Repository(const Repository&) = delete;
  Repository& operator=(const Repository&) = delete;

  const std::filesystem::path& path() const { return path_; }

  Result<Id> tip_id() const;
  Result<Commit> tip();
  Result<Commit> commit(const Id& id);
  /// The commit before; none where history begins, or where it was dropped.
  Result<std::optional<Commit>> before(const Commit& commit);

  /// A moment that a user named: a commit as git names one (a prefix of its id,
  /// HEAD, HEAD~3), or a time (times.h), which means the last commit at or
  /// before it.
  Result<Commit> resolve(const std::string& text);

  Result<NodePtr> node(const Id& id);
  /// Bytes of a value; none are an empty one.
  Result<std::string> blob(const std::optional<Id>& id);
  /// The directory of a node of this tree; none if there is no such node.
  Result<std::optional<Id>> find(const Id& tree, std::string_view path);

  /// Forgets packs that are no more, so that their space is given back. Nobody
  /// need call it in order to see what is new.
  Result<void> reopen();

 private:
  explicit Repository(std::filesystem::path path) : path_(std::move(path)) {}
  Result<Commit> last_at(std::int64_t time_us, const std::string& text);
  tl::unexpected<Problem> tree_missing(const Id& id) const;
  /// Whether the file `shallow` says that what was before this commit was dropped.
  bool is_cut_at(const Id& id);

  std::filesystem::path path_;
  git_repository* repository_ = nullptr;
  git_odb* odb_ = nullptr;
  std::unordered_map<Id, NodePtr, IdHash> nodes_;
  std::size_t children_kept_ = 0;
  struct {
    Id tree;
    std::string path;  ///< empty: nothing was found yet
    std::optional<Id> id;
  } last_found_;
  std::set<std::string> cuts_;
  std::pair<std::time_t, long> cuts_changed_;  ///< the file's time when it was read
};

/// How walk_back() ended.
enum class End { kStopped, kFirst, kDropped };

/// Shows `start` and each commit before it, with the one before that, until
/// `visit` returns false.
using Visit = std::function<Result<bool>(const Commit&, const Commit* before)>;
Result<End> walk_back(Repository& repository, Commit start, const Visit& visit);

}  // namespace history
