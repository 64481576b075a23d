// SPDX-License-Identifier: MIT
// The state that a daemon left in its area.
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "store/path.h"
#include "store/store.h"
#include "tools/inspect/state.h"
#include "xenstored/wire.h"

namespace inspect {
namespace {

/// How many whole messages these bytes are; none if they are not.
std::optional<std::size_t> count_messages(std::string_view bytes) {
  std::size_t count = 0;
  for (; !bytes.empty(); ++count) {
    xenstored::Header header{};
    if (bytes.size() < sizeof header) return std::nullopt;
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.len > bytes.size() - sizeof header) return std::nullopt;
    bytes.remove_prefix(sizeof header + header.len);
  }
  return count;
}

std::string hex(const std::array<std::uint8_t, 16>& bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

/// The nodes as they are below the root.
tools::Tree tree_of(const store::Node& root) {
  struct Open {
    const store::Node* node;
    std::string path;
  };
  tools::Tree tree;
  std::vector<Open> open{{&root, "/"}};
  while (!open.empty()) {
    const Open at = std::move(open.back());
    open.pop_back();
    tools::Content& content = tree[at.path];
    content.value = at.node->value();
    content.perms = perms_text(at.node->perms()->view());
    const store::Children* children = at.node->children();
    for (std::uint32_t slot = 0; children != nullptr && slot < children->slot_count(); ++slot) {
      const store::Node* child = children->at(slot);
      if (child != nullptr) open.push_back({child, store::child_path(at.path, child->name())});
    }
  }
  return tree;
}

/// Puts together what the records tell as they come.
class Collector final : public journal::RecordSink {
 public:
  using Shown = store::Result<void, std::string>;

  Shown node(const journal::NodeRecord& record) override {
    ++nodes_;
    if (loader_.add(record.id, record.parent, record.generation, record.perms, record.name,
                    record.value)) {
      return {};
    }
    return tl::unexpected("node " + std::to_string(raw(record.id)) + " has no place in the tree");
  }
  Shown domain(const journal::DomainRecord& record) override {
    const bool is_introduced = raw(record.conn) != 0;
    Document fields = {{"domid", raw(record.domid)}, {"introduced", int{is_introduced}}};
    if (is_introduced) fields["conn"] = raw(record.conn);
    if (record.target) fields["target"] = raw(*record.target);
    fields["gfn"] = record.gfn;
    fields["port"] = record.remote_port;
    fields["handle"] = hex(record.handle);
    fields["features"] = record.features;
    fields["shutdown"] = int{record.shutdown};
    std::string quotas;
    for (const auto& [name, value] : record.quotas) {
      quotas +=
          (quotas.empty() ? "" : ",") + store::escaped_word(name) + ':' + std::to_string(value);
    }
    fields["quotas"] = quotas;
    domains_.push_back(std::move(fields));
    return {};
  }
  Shown connection(const journal::ConnectionRecord& record) override {
    connections_.emplace(record.conn, record);
    for (const store::TxId tx : record.open_tx) {
      transactions_.push_back({{"conn", raw(record.conn)}, {"id", raw(tx)}, {"doomed", 1}});
    }
    return {};
  }
  Shown watch(const journal::WatchRecord& record) override {
    ++watch_counts_[record.conn];
    watches_.push_back({{"conn", raw(record.conn)},
                        {"seq", record.seq},
                        {"depth", record.depth},
                        {"relative", int{record.relative}},
                        {"token_bytes", record.token.size()},
                        {"path", store::escaped_word(record.path)},
                        {"token", store::escaped_word(record.token)}});
    return {};
  }
  Shown output(const journal::OutputRecord& record) override {
    outputs_[record.conn] += record.bytes;
    return {};
  }
  Shown special(const journal::SpecialRecord&) override { return {}; }
  Shown setting(const journal::SettingRecord& record) override {
    if (record.name == "history") history_setting_ = record.value;
    return {};
  }
  Shown history(const journal::HistoryRecord& record) override {
    history_entries_ += record.entries;
    return {};
  }

  /// False: the tree has no root.
  bool finish(StoredState& state, Document source) {
    store::Store store;
    if (nodes_ != 0 && !loader_.finish(store)) return false;
    if (nodes_ != 0) state.tree = tree_of(store.root());
    state.history_setting = std::move(history_setting_);
    state.history_entries = std::move(history_entries_);
    state.clients = document(std::move(source));
    return true;
  }

 private:
  Document document(Document source) {
    source["nodes"] = nodes_;
    Document connections = Document::array();
    for (const auto& [id, record] : connections_) connections.push_back(fields_of(record));
    return {{"source", std::move(source)},
            {"domains", std::move(domains_)},
            {"connections", std::move(connections)},
            {"transactions", std::move(transactions_)},
            {"watches", std::move(watches_)}};
  }

  Document fields_of(const journal::ConnectionRecord& record) {
    const std::string stream = outputs_[record.conn] + record.out;
    const auto messages = count_messages(stream);
    return {{"conn", raw(record.conn)},
            {"domid", raw(record.domid)},
            {"is_domain", 1},
            {"watches", watch_counts_[record.conn]},
            {"next_tx", record.next_tx},
            {"out_bytes", stream.size()},
            {"out_frames", messages ? Document(*messages) : Document("damaged")},
            {"in_off", record.in_off},
            {"partial", record.partial.size()},
            {"out_off", record.out_off},
            {"resetting", int{record.is_resetting}},
            {"error", record.error}};
  }

  std::size_t nodes_ = 0;
  store::Loader loader_;
  std::string history_setting_;
  std::string history_entries_;
  Document domains_ = Document::array();
  Document transactions_ = Document::array();
  Document watches_ = Document::array();
  std::map<store::ConnId, journal::ConnectionRecord> connections_;
  std::map<store::ConnId, std::string> outputs_;
  std::map<store::ConnId, std::size_t> watch_counts_;
};

}  // namespace

std::string perms_text(store::PermsView perms) {
  std::string text;
  for (const store::PermEntry& entry : perms) {
    store::append_perm(entry, text);
    text += entry.stale ? " stale\n" : "\n";
  }
  return text;
}

store::Result<StoredState, AreaProblem> read_area(const std::filesystem::path& area,
                                                  std::string_view state) {
  Collector collector;
  const auto facts = journal::read_state(area, state, collector);
  if (!facts.has_value()) {
    std::error_code error;
    return tl::unexpected(
        AreaProblem{.text = facts.error().message,
                    .is_served = facts.error().kind == journal::OpenError::Kind::kLocked,
                    .is_missing = !std::filesystem::exists(area / state, error)});
  }
  StoredState stored;
  stored.facts = facts.value();
  const Document source = {{"area", store::escaped_word(area.native())},
                           {"state", store::escaped_word(state)},
                           {"boot_id", facts.value().boot_id},
                           {"commits", facts.value().commits},
                           {"bytes", facts.value().bytes}};
  if (!collector.finish(stored, source)) return tl::unexpected(AreaProblem{"the tree has no root"});
  return stored;
}

}  // namespace inspect
