// SPDX-License-Identifier: MIT
#include "tools/history/repository.h"

#include <fmt/format.h>
#include <git2.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

#include "store/path.h"
#include "tools/common/pieces.h"
#include "tools/history/times.h"

namespace history {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTip = "refs/heads/main";
constexpr std::size_t kCacheBytes = std::size_t{4} << 20;
/// Nodes are kept until they have so many children: some 10 MiB.
constexpr std::size_t kChildrenKept = 100'000;
/// A pack may be replaced between listing the folder and opening it, again and
/// again while the daemon is busy.
constexpr int kTriesMax = 20;

template <auto kFree>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using CommitHandle = std::unique_ptr<git_commit, Freed<git_commit_free>>;
using TreeHandle = std::unique_ptr<git_tree, Freed<git_tree_free>>;
using BlobHandle = std::unique_ptr<git_blob, Freed<git_blob_free>>;
using ObjectHandle = std::unique_ptr<git_object, Freed<git_object_free>>;

std::string last_error() {
  const git_error* const error = git_error_last();
  return error != nullptr ? error->message : "unknown error";
}

/// Before the first call, once.
void start_git() {
  static const bool is_done = [] {
    git_libgit2_init();
    git_libgit2_opts(GIT_OPT_SET_CACHE_MAX_SIZE, ssize_t{kCacheBytes});
    // Each commit is met once.
    git_libgit2_opts(GIT_OPT_SET_CACHE_OBJECT_LIMIT, GIT_OBJECT_COMMIT, std::size_t{0});
    // A copy may belong to anybody: nothing in it is executed.
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    // Each object's hash is for those who check the repository (git fsck).
    git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 0);
    return true;
  }();
  static_cast<void>(is_done);
}

/// Looks an object up, again while packs are being replaced.
template <class T, class Lookup>
T* look_up(git_repository* repository, git_odb* odb, const Id& id, Lookup lookup) {
  T* object = nullptr;
  for (int tries = 0; tries < kTriesMax; ++tries) {
    if (lookup(&object, repository, &id.oid) == 0) return object;
    git_odb_refresh(odb);
  }
  return nullptr;
}

template <class Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

/// What git's seconds are here; those that no clock shows are 0.
std::int64_t micros_of(std::int64_t seconds) {
  constexpr std::int64_t kSecondsMax = 1'000'000'000'000;
  return seconds < 0 || seconds > kSecondsMax ? 0 : seconds * 1'000'000;
}

/// "1763741111.123456" as microseconds.
std::optional<std::int64_t> parse_seconds(std::string_view text) {
  std::int64_t seconds = 0;
  std::int64_t micros = 0;
  const std::size_t dot = text.find('.');
  if (!parse_number(text.substr(0, dot), seconds)) return std::nullopt;
  if (dot != std::string_view::npos) {
    if (text.size() - dot != 7 || !parse_number(text.substr(dot + 1), micros)) return std::nullopt;
  }
  return micros_of(seconds) + micros;
}

/// Takes one trailer into the commit; false if this is none of ours.
bool take_trailer(std::string_view line, Commit& commit) {
  constexpr std::string_view kPrefix = "Xenstore-";
  if (!line.starts_with(kPrefix)) return false;
  const std::size_t colon = line.find(": ");
  if (colon == std::string_view::npos) return false;
  const std::string_view name = line.substr(kPrefix.size(), colon - kPrefix.size());
  const std::string_view value = line.substr(colon + 2);
  if (name == "Entry") {
    if (!parse_number(value, commit.last_entry)) return false;
    if (commit.first_entry == 0) commit.first_entry = commit.last_entry;
  } else if (name == "Entries") {
    if (!parse_number(value.substr(0, value.find('-')), commit.first_entry)) return false;
  } else if (name == "Time") {
    if (const auto time = parse_seconds(value)) commit.time_us = *time;
  } else if (name == "Whole") {
    commit.whole = value;
  }
  return true;
}

/// Subject, body, and trailers from the end on.
void take_message(std::string_view message, Commit& commit) {
  std::vector<std::string_view> lines = tools::pieces(message, '\n');
  const auto drop_empty = [&lines] {
    while (!lines.empty() && lines.back().empty()) lines.pop_back();
  };
  drop_empty();
  while (lines.size() > 1 && take_trailer(lines.back(), commit)) lines.pop_back();
  drop_empty();
  if (lines.empty()) return;
  commit.subject = lines.front();
  for (std::size_t i = 1; i < lines.size(); ++i) {
    if (i > 1 || !lines[i].empty()) commit.body.emplace_back(lines[i]);
  }
}

Commit read_commit(git_commit* handle) {
  Commit commit;
  commit.id.oid = *git_commit_id(handle);
  commit.tree.oid = *git_commit_tree_id(handle);
  if (git_commit_parentcount(handle) > 0) commit.parent = Id{*git_commit_parent_id(handle, 0)};
  const git_signature* const author = git_commit_author(handle);
  commit.author = Author::parse(author->name, author->email);
  commit.time_us = micros_of(author->when.time);
  take_message(git_commit_message(handle), commit);
  return commit;
}

Node read_node(const git_tree* tree) {
  Node node;
  const std::size_t count = git_tree_entrycount(tree);
  node.children.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const git_tree_entry* const entry = git_tree_entry_byindex(tree, i);
    const std::string_view name = git_tree_entry_name(entry);
    const Id id{*git_tree_entry_id(entry)};
    if (git_tree_entry_type(entry) == GIT_OBJECT_TREE) {
      node.children.push_back({std::string(name), id});
    } else if (name == ".value") {
      node.value = id;
    } else if (name == ".perms") {
      node.perms = id;
    }
  }
  // git sorts a directory as if its name ended in '/', which differs for "a" and "a-b" alone.
  const auto is_before = [](const Node::Child& a, const Node::Child& b) { return a.name < b.name; };
  if (!std::is_sorted(node.children.begin(), node.children.end(), is_before)) {
    std::sort(node.children.begin(), node.children.end(), is_before);
  }
  return node;
}

}  // namespace

std::string Id::hex() const {
  std::string text(GIT_OID_HEXSZ, '\0');
  git_oid_fmt(text.data(), &oid);
  return text;
}

std::size_t IdHash::operator()(const Id& id) const {
  std::size_t hash = 0;
  std::memcpy(&hash, id.oid.id, sizeof hash);
  return hash;
}

Author Author::parse(std::string_view name, std::string_view mail) {
  Author author;
  author.name = name;
  mail = mail.substr(0, mail.find('@'));
  constexpr std::string_view kDomainPrefix = "domain-";
  constexpr std::string_view kPidPrefix = "pid-";
  constexpr std::string_view kUidPrefix = ".uid-";
  const std::size_t uid = mail.find(kUidPrefix);
  if (mail.starts_with(kDomainPrefix) &&
      parse_number(mail.substr(kDomainPrefix.size()), author.domid)) {
    author.kind = Kind::kDomain;
  } else if (mail.starts_with(kPidPrefix) && uid != std::string_view::npos &&
             parse_number(mail.substr(kPidPrefix.size(), uid - kPidPrefix.size()), author.pid) &&
             parse_number(mail.substr(uid + kUidPrefix.size()), author.uid)) {
    author.kind = Kind::kSocket;
  }
  return author;
}

std::string Author::text() const {
  if (kind != Kind::kSocket) return name;
  return uid == 0 ? fmt::format("{} (pid {})", name, pid)
                  : fmt::format("{} (pid {}, uid {})", name, pid, uid);
}

RequestLine parse_request_line(std::string_view line) {
  RequestLine request;
  request.text = line;
  std::string_view rest = line;
  const auto word = [&rest] { return rest.substr(0, rest.find(' ')); };
  const auto next = [&rest, &word] {
    rest.remove_prefix(std::min(word().size() + 1, rest.size()));
  };
  next();  // the operation
  for (; rest.starts_with('/'); next()) request.paths.emplace_back(word());
  constexpr std::string_view kBy = "by ";
  if (rest.starts_with("and ")) rest.remove_prefix(std::min(rest.find(kBy), rest.size()));
  const std::size_t mail = rest.rfind(" (");
  if (!rest.starts_with(kBy) || !rest.ends_with(')') || mail < kBy.size()) return request;
  if (mail == std::string_view::npos) return request;
  request.author = Author::parse(rest.substr(kBy.size(), mail - kBy.size()),
                                 rest.substr(mail + 2, rest.size() - mail - 3));
  return request;
}

const Id* Node::child(std::string_view name) const {
  const auto found =
      std::lower_bound(children.begin(), children.end(), name,
                       [](const Child& a, std::string_view b) { return a.name < b; });
  return found != children.end() && found->name == name ? &found->id : nullptr;
}

Result<std::unique_ptr<Repository>> Repository::open(const fs::path& area) {
  std::error_code error;
  fs::path path = area / "history.git";
  if (!fs::exists(path, error)) path = area;
  if (!fs::is_directory(path, error)) {
    return tl::unexpected(fmt::format("{}: no such directory", path.native()));
  }
  if (!fs::exists(path / "HEAD", error)) {
    return tl::unexpected(fmt::format("{}: no history.git is in it", path.native()));
  }
  start_git();
  std::unique_ptr<Repository> repository(new Repository(path));
  if (const auto opened = repository->reopen(); !opened.has_value()) {
    return tl::unexpected(opened.error());
  }
  return repository;
}

Repository::~Repository() {
  git_odb_free(odb_);
  git_repository_free(repository_);
}

Result<void> Repository::reopen() {
  git_repository* opened = nullptr;
  git_odb* odb = nullptr;
  if (git_repository_open_bare(&opened, path_.c_str()) != 0 ||
      git_repository_odb(&odb, opened) != 0) {
    git_repository_free(opened);
    return tl::unexpected(fmt::format("{}: {}", path_.native(), last_error()));
  }
  git_odb_free(odb_);
  git_repository_free(repository_);
  repository_ = opened;
  odb_ = odb;
  return {};
}

Result<Id> Repository::tip_id() const {
  Id id;
  if (git_reference_name_to_id(&id.oid, repository_, std::string(kTip).c_str()) != 0) {
    return tl::unexpected(fmt::format("{}: there is no commit yet", path_.native()));
  }
  return id;
}

Result<Commit> Repository::tip() {
  const auto id = tip_id();
  if (!id.has_value()) return tl::unexpected(id.error());
  return commit(id.value());
}

Result<Commit> Repository::commit(const Id& id) {
  const CommitHandle handle(look_up<git_commit>(repository_, odb_, id, git_commit_lookup));
  if (handle == nullptr) {
    return tl::unexpected(
        fmt::format("{}: commit {}: {}", path_.native(), id.brief(), last_error()));
  }
  Commit commit = read_commit(handle.get());
  if (commit.parent && is_cut_at(id)) {
    commit.parent.reset();
    commit.is_cut = true;
  }
  return commit;
}

bool Repository::is_cut_at(const Id& id) {
  struct stat file {};
  if (::stat((path_ / "shallow").c_str(), &file) != 0) return false;
  const auto changed = std::pair(file.st_mtim.tv_sec, file.st_mtim.tv_nsec);
  if (changed != cuts_changed_) {
    std::ifstream stream(path_ / "shallow");
    cuts_.clear();
    for (std::string line; std::getline(stream, line);) cuts_.insert(line);
    cuts_changed_ = changed;
  }
  return cuts_.contains(id.hex());
}

Result<std::optional<Commit>> Repository::before(const Commit& of) {
  if (!of.parent) return std::optional<Commit>();
  auto found = commit(*of.parent);
  if (found.has_value()) return std::optional(std::move(found.value()));
  // Dropped since `of` was read; a repository that lacks it for no reason looks alike.
  return std::optional<Commit>();
}

Result<Commit> Repository::last_at(std::int64_t time_us, const std::string& text) {
  auto last = tip();
  if (!last.has_value()) return last;
  std::optional<Commit> found;
  const auto end =
      walk_back(*this, std::move(last.value()), [&](const Commit& commit, const Commit*) {
        if (commit.time_us <= time_us) found = commit;
        return Result<bool>(!found.has_value());
      });
  if (!end.has_value()) return tl::unexpected(end.error());
  if (found) return std::move(*found);
  return tl::unexpected(fmt::format("{}: history does not reach back to {} ({})", path_.native(),
                                    text, format_time(time_us)));
}

Result<Commit> Repository::resolve(const std::string& text) {
  if (const auto time = parse_time(text, now_us())) return last_at(*time, text);
  if (const auto tip = tip_id(); !tip.has_value()) return tl::unexpected(tip.error());
  git_object* found = nullptr;
  for (int tries = 0; tries < kTriesMax && found == nullptr; ++tries) {
    if (git_revparse_single(&found, repository_, text.c_str()) != 0) git_odb_refresh(odb_);
  }
  const ObjectHandle named(found);
  git_object* peeled = nullptr;
  if (named == nullptr || git_object_peel(&peeled, named.get(), GIT_OBJECT_COMMIT) != 0) {
    return tl::unexpected(fmt::format("{}: neither a commit of {} nor a time",
                                      store::escaped_word(text), path_.native()));
  }
  const ObjectHandle object(peeled);
  return commit(Id{*git_object_id(object.get())});
}

tl::unexpected<Problem> Repository::tree_missing(const Id& id) const {
  return tl::unexpected(fmt::format("{}: tree {}: {}", path_.native(), id.brief(), last_error()));
}

Result<NodePtr> Repository::node(const Id& id) {
  if (const auto kept = nodes_.find(id); kept != nodes_.end()) return kept->second;
  const TreeHandle handle(look_up<git_tree>(repository_, odb_, id, git_tree_lookup));
  if (handle == nullptr) return tree_missing(id);
  auto made = std::make_shared<const Node>(read_node(handle.get()));
  children_kept_ += made->children.size() + 1;
  if (children_kept_ > kChildrenKept) {
    nodes_.clear();
    children_kept_ = made->children.size() + 1;
  }
  nodes_.emplace(id, made);
  return made;
}

Result<std::string> Repository::blob(const std::optional<Id>& id) {
  if (!id) return std::string();
  const BlobHandle handle(look_up<git_blob>(repository_, odb_, *id, git_blob_lookup));
  if (handle == nullptr) {
    return tl::unexpected(
        fmt::format("{}: blob {}: {}", path_.native(), id->brief(), last_error()));
  }
  return std::string(static_cast<const char*>(git_blob_rawcontent(handle.get())),
                     static_cast<std::size_t>(git_blob_rawsize(handle.get())));
}

Result<std::optional<Id>> Repository::find(const Id& tree, std::string_view path) {
  // Who walks back asks of each tree twice: as what was before, and then as what came after.
  if (last_found_.tree == tree && last_found_.path == path) return last_found_.id;
  std::optional<Id> at = tree;
  for (store::PathNames names(path); !names.done() && at;) {
    // Looked up in the tree as it is: of a wide one no node is made.
    const TreeHandle parent(look_up<git_tree>(repository_, odb_, *at, git_tree_lookup));
    if (parent == nullptr) return tree_missing(*at);
    const git_tree_entry* const entry =
        git_tree_entry_byname(parent.get(), std::string(names.next()).c_str());
    const bool is_node = entry != nullptr && git_tree_entry_type(entry) == GIT_OBJECT_TREE;
    at = is_node ? std::optional(Id{*git_tree_entry_id(entry)}) : std::nullopt;
  }
  last_found_ = {tree, std::string(path), at};
  return at;
}

Result<End> walk_back(Repository& repository, Commit start, const Visit& visit) {
  Commit at = std::move(start);
  while (true) {
    auto before = repository.before(at);
    if (!before.has_value()) return tl::unexpected(before.error());
    const auto goes_on = visit(at, before.value() ? &*before.value() : nullptr);
    if (!goes_on.has_value()) {
      // Trees go with the commits of their time.
      if (!repository.commit(at.id).has_value()) return End::kDropped;
      if (at.parent && !repository.commit(*at.parent).has_value()) return End::kDropped;
      return tl::unexpected(goes_on.error());
    }
    if (!goes_on.value()) return End::kStopped;
    if (!before.value()) return at.is_cut || at.parent ? End::kDropped : End::kFirst;
    at = std::move(*before.value());
  }
}

}  // namespace history
