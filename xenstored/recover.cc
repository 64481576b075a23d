// SPDX-License-Identifier: MIT
/// Starting is recovering: the one way to a running daemon is from the journal,
/// and an empty journal is the easy case.
#include <algorithm>

#include "store/path.h"
#include "xenstored/daemon.h"

namespace xenstored {

using journal::RecordSink;
using store::Result;

namespace {

using Shown = Result<void, std::string>;

Shown refuse(std::string what) { return tl::unexpected(std::move(what)); }

/// Takes every record as it comes; what refers to another is put together later.
struct Records final : RecordSink {
  store::Loader tree;
  bool has_nodes = false;
  std::vector<journal::DomainRecord> domains;
  std::vector<journal::ConnectionRecord> connections;
  std::vector<journal::WatchRecord> watches;
  std::vector<journal::OutputRecord> outputs;
  std::vector<journal::SpecialRecord> specials;
  std::vector<journal::SettingRecord> settings;
  StoredHistory stored_history;

  Shown node(const journal::NodeRecord& record) override {
    has_nodes = true;
    if (tree.add(record.id, record.parent, record.generation, record.perms, record.name,
                 record.value)) {
      return {};
    }
    return refuse("node " + std::to_string(raw(record.id)) + " has no place in the tree");
  }
  Shown domain(const journal::DomainRecord& record) override {
    domains.push_back(record);
    return {};
  }
  Shown connection(const journal::ConnectionRecord& record) override {
    connections.push_back(record);
    return {};
  }
  Shown watch(const journal::WatchRecord& record) override {
    watches.push_back(record);
    return {};
  }
  Shown output(const journal::OutputRecord& record) override {
    outputs.push_back(record);
    return {};
  }
  Shown special(const journal::SpecialRecord& record) override {
    specials.push_back(record);
    return {};
  }
  Shown setting(const journal::SettingRecord& record) override {
    if (record.name == History::kSettingName) {
      stored_history.setting = record.value;
    } else {
      settings.push_back(record);
    }
    return {};
  }
  Shown history(const journal::HistoryRecord& record) override {
    stored_history.add(record);
    return {};
  }
};

void compare_trees(const store::Node& memory, const store::Node& disk,
                   std::vector<std::string>& wrong) {
  struct Pair {
    const store::Node* memory;
    const store::Node* disk;
    std::string path;
  };
  std::vector<Pair> open{{&memory, &disk, ""}};
  while (!open.empty() && wrong.size() < 100) {
    const Pair at = std::move(open.back());
    open.pop_back();
    const auto perms = at.memory->perms()->view();
    const auto perms_on_disk = at.disk->perms()->view();
    if (at.memory->id() != at.disk->id() || at.memory->generation() != at.disk->generation() ||
        at.memory->value() != at.disk->value() ||
        !std::equal(perms.begin(), perms.end(), perms_on_disk.begin(), perms_on_disk.end())) {
      wrong.push_back(at.path + "/: differs in the journal");
    }
    if (at.memory->child_count() != at.disk->child_count()) {
      wrong.push_back(at.path + "/: number of children differs in the journal");
    }
    const store::Children* children = at.memory->children();
    for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
      const store::Node* child = children->at(slot);
      if (child == nullptr) continue;
      const std::string path = at.path + '/' + std::string(child->name());
      const store::Node* on_disk = at.disk->find(child->name());
      if (on_disk == nullptr) {
        wrong.push_back(path + ": missing in the journal");
      } else {
        open.push_back({child, on_disk, path});
      }
    }
  }
}

}  // namespace

Result<void, std::string> Daemon::recover() {
  Records records;
  if (const auto loaded = journal_.load(records); !loaded.has_value()) {
    return tl::unexpected(loaded.error().message);
  }
  specials_[std::string(store::kIntroduceDomain)] = {{store::kDom0, store::Access::kNone}};
  specials_[std::string(store::kReleaseDomain)] = {{store::kDom0, store::Access::kNone}};
  if (!records.has_nodes) {
    recover_clients(false);  // before a commit whose number might be one of theirs
    if (!restore_tree()) make_initial_tree();
    begin_history(records.stored_history);
    recover_rings();
    return {};
  }
  if (!records.tree.finish(store_)) return refuse("the tree has no root");
  for (const journal::SettingRecord& setting : records.settings) {
    const bool is_quota = setting.name.starts_with("quota/");
    const auto quota =
        store::quota_of_name(std::string_view(setting.name).substr(is_quota ? 6 : 0));
    if (!is_quota || !quota.has_value()) return refuse("unknown setting " + setting.name);
    limits_[*quota] = static_cast<std::uint32_t>(leading_number(setting.value));
  }
  for (const journal::SpecialRecord& special : records.specials) {
    specials_[special.name] = special.perms;
  }
  for (const journal::ConnectionRecord& record : records.connections) {
    if (auto ok = recover_connection(record, records.outputs); !ok.has_value()) return ok;
  }
  for (const journal::DomainRecord& record : records.domains) {
    if (auto ok = recover_domain(record); !ok.has_value()) return ok;
  }
  for (const auto& [domid, known] : domains_) {
    if (Domain* target = known.target ? find_domain(*known.target) : nullptr) {
      target->is_target = true;
    }
  }
  for (const journal::WatchRecord& record : records.watches) {
    if (auto ok = recover_watch(record); !ok.has_value()) return ok;
  }
  // Last: a state that is refused after all must not have taken anybody up.
  recover_clients(true);
  for (const journal::WatchRecord& record : records.watches) give_to_client(record);
  refresh_callers();
  begin_history(records.stored_history);
  recover_rings();
  return {};
}

void Daemon::begin_history(const StoredHistory& stored) {
  history_.begin(stored, store_.root());
  const int fd = history_.news_fd();
  if (fd >= 0) add_source(fd, [this] { history_.read_news(); });
}

/// The tree that history had last, when the journal's state was lost. In the journal the
/// root comes last: a state without one is none, whatever else of it was written.
bool Daemon::restore_tree() {
  constexpr std::uint64_t kNodesInACommit = 1000;
  struct Ancestor {
    std::string path;
    store::NodeId id;
  };
  store::Loader tree;
  std::vector<Ancestor> ancestors;
  std::uint64_t count = 0;
  std::string root_value;
  store::Perms root_perms;
  const auto add = [&](const journal::HistoryNode& node) -> Result<void, std::string> {
    const std::string_view above = store::parent_path(node.path);
    while (!ancestors.empty() && ancestors.back().path != above) ancestors.pop_back();
    const store::NodeId id{++count};
    const store::NodeId parent = ancestors.empty() ? store::kNoNode : ancestors.back().id;
    const std::string_view name =
        node.path == "/" ? "" : node.path.substr(node.path.rfind('/') + 1);
    const journal::NodeRecord record{id,         parent, store::Generation{count},
                                     node.perms, name,   node.value};
    if (!tree.add(id, parent, record.generation, node.perms, name, node.value)) {
      return refuse(std::string(node.path) + " has no place in the tree");
    }
    ancestors.push_back({std::string(node.path), id});
    if (id == store::kRootId) {
      root_value = node.value;
      root_perms.assign(node.perms.begin(), node.perms.end());
      return {};
    }
    journal_.put(record);
    if (count % kNodesInACommit == 0) commit();
    return {};
  };
  if (!history_.restore(add) || !tree.finish(store_)) return false;
  journal_.put(journal::NodeRecord{store::kRootId, store::kNoNode, store_.root().generation(),
                                   root_perms, "", root_value});
  for (const auto& [name, perms] : specials_) save_special(name);
  commit();
  return true;
}

/// What C xenstored makes of nothing; the rest is the toolstack's to create.
void Daemon::make_initial_tree() {
  const store::Caller dom0;
  std::string reply;
  const store::TreeOp make{.kind = store::TreeOp::Kind::kMkdir, .path = "/tool/xenstored"};
  (void)store_.execute(make, dom0, nullptr, reply);
  carry_out_effects({}, "");
  for (const auto& [name, perms] : specials_) save_special(name);
  commit();
}

/// Transactions that were open go on answering, but cannot commit. What was to be
/// sent and perhaps was is put together again; the ring's page tells how much it was.
Shown Daemon::recover_connection(const journal::ConnectionRecord& record,
                                 const std::vector<journal::OutputRecord>& outputs) {
  last_conn_ = std::max(last_conn_, raw(record.conn));
  Connection& conn = new_connection(record.conn, domain_caller(record.domid), true);
  conn.last_tx = record.next_tx;
  for (const store::TxId tx : record.open_tx) conn.transactions.emplace(tx, store_.begin(true));
  conn.in_off = record.in_off;
  conn.in = record.partial;
  conn.partial = static_cast<std::uint32_t>(record.partial.size());
  conn.is_resetting = record.is_resetting;
  conn.error = static_cast<rings::RingError>(record.error);

  std::string stream;
  std::uint64_t end = record.out_off;
  auto output = std::lower_bound(
      outputs.begin(), outputs.end(), record.conn,
      [](const journal::OutputRecord& one, store::ConnId id) { return one.conn < id; });
  for (; output != outputs.end() && output->conn == record.conn; ++output) {
    stream += output->bytes;
    conn.stored.chunks.push_back({output->seq, end, end + output->bytes.size()});
    conn.stored.last_seq = output->seq;
    end += output->bytes.size();
  }
  conn.stored.tail = end;
  stream += record.out;
  if (conn.out.restore(record.out_off, stream, 0, now_us_)) return {};
  return refuse("output of connection " + std::to_string(raw(record.conn)) + " is no messages");
}

Result<void, std::string> Daemon::recover_domain(const journal::DomainRecord& record) {
  Domain& known = domain(record.domid);
  if (record.conn != store::ConnId{0}) {
    const Connection* conn = find(record.conn);
    if (conn == nullptr || conn->caller.domid != record.domid) {
      return refuse("domain " + std::to_string(raw(record.domid)) + " has no connection");
    }
    known.conn = record.conn;
  }
  known.gfn = record.gfn;
  known.remote_port = record.remote_port;
  known.target = record.target;
  known.features = record.features;
  known.shutdown = record.shutdown;
  known.handle = record.handle;
  for (const auto& [name, value] : record.quotas) {
    const auto quota = store::quota_of_name(name);
    if (!quota.has_value()) return refuse("unknown quota " + name);
    known.own_quotas[*quota] = value;
  }
  refresh_limits(known);
  return {};
}

Result<void, std::string> Daemon::recover_watch(const journal::WatchRecord& record) {
  last_watch_ = std::max(last_watch_, record.seq);
  last_conn_ = std::max(last_conn_, raw(record.conn));
  const auto added = watches_.add(
      {record.conn, record.seq, record.path, record.token, record.relative, record.depth});
  if (!added.has_value()) return refuse("a doubled watch");
  return {};
}

/// The watch is there: whose it is has it, or has ended, as socket clients do.
void Daemon::give_to_client(const journal::WatchRecord& record) {
  Connection* conn = find(record.conn);
  if (conn == nullptr) {
    journal_.erase_watch(record.conn, record.seq);
    (void)watches_.remove(record.conn, record.path, record.token);
    return;
  }
  ++conn->watches;
  conn->watch_bytes += sizeof(store::Watch) + record.path.size() + record.token.size();
}

/// The checker: what a restart would make of the journal, against memory.
std::vector<std::string> Daemon::compare_with_journal() const {
  Records records;
  if (const auto read = journal_.verify(records); !read.has_value()) return {read.error()};
  store::Store disk;
  if (!records.tree.finish(disk)) return {"the journal has no tree"};
  std::vector<std::string> wrong;
  compare_trees(store_.root(), disk.root(), wrong);
  std::size_t watches = 0;
  std::size_t connections = 0;
  for (const auto& [id, conn] : conns_) {
    if (!conn->is_stored() || conn->is_closing) continue;
    if (conn->is_domain) ++connections;
    watches += conn->watches;
  }
  if (records.domains.size() != domains_.size()) wrong.emplace_back("domains differ");
  if (records.connections.size() != connections) wrong.emplace_back("connections differ");
  if (records.watches.size() != watches) wrong.emplace_back("watches differ");
  for (const journal::WatchRecord& watch : records.watches) {
    if (!watches_.has(watch.conn, watch.path, watch.token)) {
      wrong.push_back("watch on " + watch.path + " is only in the journal");
    }
  }
  for (const journal::SpecialRecord& special : records.specials) {
    const auto found = specials_.find(special.name);
    if (found == specials_.end() || found->second != special.perms) {
      wrong.push_back(special.name + ": differs in the journal");
    }
  }
  return wrong;
}

}  // namespace xenstored
