// SPDX-License-Identifier: MIT
#include "tools/common/daemon_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "store/path.h"

namespace tools {
namespace {

using xenstored::Op;

constexpr std::string_view kStale = " stale";

std::string with_nul(const std::string& text) { return text + '\0'; }

/// A daemon's answer that was an error.
auto refused(const std::string& what, const std::string& error) {
  return tl::unexpected(fmt::format("the daemon refuses to {}: {}", what, error));
}

std::vector<std::string> names_in(std::string_view payload) {
  const auto names = pieces(payload, '\0');
  return {names.begin(), names.end()};
}

std::string on_path(std::string_view what, const std::string& path) {
  return fmt::format("{} {}", what, store::escaped_word(path));
}

class TreeReader {
 public:
  explicit TreeReader(Transaction& transaction) : transaction_(transaction) {}

  Result<void> add(const std::string& path) {
    const auto value = transaction_.ask(Op::kRead, path);
    if (!value.has_value()) return tl::unexpected(value.error());
    if (value.value().is_error && value.value().payload == "ENOENT") return {};
    const auto perms = transaction_.ask(Op::kGetPerms, path);
    if (!perms.has_value()) return tl::unexpected(perms.error());
    for (const Reply* reply : {&value.value(), &perms.value()}) {
      if (reply->is_error) return refused(on_path("read", path), reply->payload);
    }
    Content& content = tree_[path];
    content.value = value.value().payload;
    content.perms = perms.value().payload;
    std::replace(content.perms.begin(), content.perms.end(), '\0', '\n');

    const auto names = children_of(path);
    if (!names.has_value()) return tl::unexpected(names.error());
    for (const std::string& name : names.value()) {
      auto done = add(store::child_path(path, name));
      if (!done.has_value()) return done;
    }
    return {};
  }

  Tree take() { return std::move(tree_); }

 private:
  Result<std::vector<std::string>> children_of(const std::string& path) {
    const auto reply = transaction_.ask(Op::kDirectory, path);
    if (!reply.has_value()) return tl::unexpected(reply.error());
    if (!reply.value().is_error) return names_in(reply.value().payload);
    if (reply.value().payload == "E2BIG") return children_in_parts(path);
    return refused(on_path("list", path), reply.value().payload);
  }

  /// More names than a reply holds: a piece at a time, each behind a generation;
  /// the last one ends in an empty name (xenstore.txt, DIRECTORY_PART).
  Result<std::vector<std::string>> children_in_parts(const std::string& path) {
    std::string names;
    while (!names.ends_with(std::string_view("\0\0", 2))) {
      const auto reply =
          transaction_.ask(Op::kDirectoryPart, path, with_nul(std::to_string(names.size())));
      if (!reply.has_value()) return tl::unexpected(reply.error());
      const std::string& payload = reply.value().payload;
      if (reply.value().is_error) return refused(on_path("list", path), payload);
      const std::size_t generation = payload.find('\0');
      if (generation == std::string::npos || generation + 1 == payload.size()) break;
      names += payload.substr(generation + 1);
    }
    while (names.ends_with('\0')) names.pop_back();
    return names_in(names);
  }

  Transaction& transaction_;
  Tree tree_;
};

/// A list of permissions for SET_PERMS: entries of the dead granted nothing and go.
std::string without_dead(const std::string& perms, bool orphans_to_dom0) {
  std::string text;
  for (const std::string_view entry : perm_entries(perms)) {
    const bool is_stale = entry.ends_with(kStale);
    if (text.empty() && is_stale && orphans_to_dom0) {
      text = std::string(entry.substr(0, 1)) + "0\n";
    } else if (text.empty() || !is_stale) {
      text.append(entry.substr(0, entry.find(' '))) += '\n';
    }
  }
  return text;
}

Result<void> request(Transaction& transaction, Op op, std::string_view what,
                     const std::string& path, std::string_view rest) {
  const auto reply = transaction.ask(op, path, rest);
  if (!reply.has_value()) return tl::unexpected(reply.error());
  if (reply.value().is_error) return refused(on_path(what, path), reply.value().payload);
  return {};
}

Result<void> set_perms(Transaction& transaction, const std::string& path, std::string perms) {
  std::replace(perms.begin(), perms.end(), '\n', '\0');
  const auto reply = transaction.ask(Op::kSetPerms, path, perms);
  if (!reply.has_value()) return tl::unexpected(reply.error());
  if (!reply.value().is_error) return {};
  if (reply.value().payload == "ENOENT") {
    return tl::unexpected(fmt::format(
        "the owner of {}, domain {}, does not exist any more; --orphans-to-dom0 gives such nodes "
        "to domain 0",
        store::escaped_word(path), perms.substr(1, perms.find('\0') - 1)));
  }
  return refused(on_path("set permissions of", path), reply.value().payload);
}

}  // namespace

Transaction::~Transaction() { static_cast<void>(give_up().has_value()); }

Result<void> Transaction::start() {
  const auto reply = client_.ask(Op::kTransactionStart, with_nul(""));
  if (!reply.has_value()) return tl::unexpected(reply.error());
  const std::string& text = reply.value().payload;
  if (reply.value().is_error) return refused("begin a transaction", text);
  std::from_chars(text.data(), text.data() + text.size(), id_);
  return {};
}

Result<bool> Transaction::commit() {
  const auto reply = client_.ask(Op::kTransactionEnd, with_nul("T"), std::exchange(id_, 0));
  if (!reply.has_value()) return tl::unexpected(reply.error());
  if (!reply.value().is_error) return true;
  if (reply.value().payload == "EAGAIN") return false;
  return refused("commit the transaction", reply.value().payload);
}

Result<void> Transaction::give_up() {
  if (id_ == 0) return {};
  const auto reply = client_.ask(Op::kTransactionEnd, with_nul("F"), std::exchange(id_, 0));
  if (!reply.has_value()) return tl::unexpected(reply.error());
  return {};
}

Result<Reply> Transaction::ask(Op op, const std::string& path, std::string_view rest) {
  return client_.ask(op, with_nul(path) + std::string(rest), id_);
}

Result<Tree> read_tree(Transaction& transaction, const std::string& path) {
  TreeReader reader(transaction);
  const auto done = reader.add(path);
  if (!done.has_value()) return tl::unexpected(done.error());
  return reader.take();
}

std::vector<Change> plan_changes(const Tree& wanted, const Tree& live, bool orphans_to_dom0) {
  Tree possible = wanted;
  for (auto& [path, content] : possible) {
    const auto found = live.find(path);
    const bool is_there =
        found != live.end() && found->second.perms == without_marks(content.perms);
    content.perms = is_there ? found->second.perms : without_dead(content.perms, orphans_to_dom0);
  }
  std::vector<Change> changes = differences(live, possible);
  std::stable_partition(changes.begin(), changes.end(),
                        [](const Change& change) { return !change.after; });
  return changes;
}

Result<void> Work::carry_out(Transaction& transaction, std::span<const Change> changes) {
  for (const Change& change : changes) {
    auto done = one(transaction, change);
    if (!done.has_value()) return done;
  }
  return {};
}

Result<void> Work::one(Transaction& transaction, const Change& change) {
  const std::string& path = change.path;
  if (!change.after) {
    for (std::string_view above = store::parent_path(path); !above.empty();
         above = store::parent_path(above)) {
      if (removed_.contains(above)) return {};
    }
    removed_.insert(path);
    return request(transaction, Op::kRm, "remove", path, {});
  }
  if (!change.before || change.before->value != change.after->value) {
    auto done = request(transaction, Op::kWrite, "write", path, change.after->value);
    if (!done.has_value()) return done;
  }
  if (change.before && change.before->perms == change.after->perms) return {};
  return set_perms(transaction, path, change.after->perms);
}

}  // namespace tools
