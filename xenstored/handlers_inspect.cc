// SPDX-License-Identifier: MIT
/// CONTROL inspect [<cursor>]: what the daemon knows of its clients, a reply's
/// worth at a time, as lines of "<kind> <field>=<value> ...". The last line is
/// "next <cursor>" or "end". Between two replies clients may come and go; each one
/// that stays is shown once. tools/inspect asks this and shows it.
#include <algorithm>
#include <charconv>
#include <tuple>

#include <fmt/format.h>

#include "store/path.h"
#include "xenstored/daemon.h"

namespace xenstored {

using store::Answer;
using store::WireError;

namespace {

/// Room for the last line and the NUL.
constexpr std::size_t kLinesMax = kPayloadMax - 64;
/// Of a token, which may be nearly as long as a reply and four times that escaped.
constexpr std::size_t kTokenShown = 200;

/// Where the next reply begins: a kind of lines, and the lowest key in it.
struct Cursor {
  enum Kind : std::uint64_t { kDomains, kConnections, kTransactions, kWatches, kEnd };
  std::uint64_t kind = kDomains;
  std::uint64_t first = 0;
  std::uint64_t second = 0;

  friend bool operator<(const Cursor& a, const Cursor& b) {
    return std::tie(a.kind, a.first, a.second) < std::tie(b.kind, b.first, b.second);
  }
};

Answer<Cursor> parse_cursor(std::string_view text) {
  Cursor cursor;
  for (std::uint64_t* const number : {&cursor.kind, &cursor.first, &cursor.second}) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
    if (error != std::errc()) return tl::unexpected(WireError::kInval);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const bool is_last = number == &cursor.second;
    if (is_last ? !text.empty() : !text.starts_with('.')) return tl::unexpected(WireError::kInval);
    if (!is_last) text.remove_prefix(1);
  }
  return cursor;
}

/// The lines of one reply, from its cursor on; the cursor moves to the first one
/// that does not fit.
class Lines {
 public:
  explicit Lines(const Cursor& from) : at_(from) {}

  /// False: full. `make_line` is asked only for lines that are to be shown.
  template <class MakeLine>
  bool add(const Cursor& key, const MakeLine& make_line) {
    if (key < at_) return true;
    const std::string line = make_line();
    if (text_.size() + line.size() <= kLinesMax) {
      text_ += line;
      return true;
    }
    at_ = key;
    return false;
  }
  /// Were all lines of this client shown before?
  bool is_past(Cursor::Kind kind, store::ConnId conn) const {
    return Cursor{kind, raw(conn), UINT64_MAX} < at_;
  }
  std::string finish(bool is_all) {
    return text_ +
           (is_all ? "end\n" : fmt::format("next {}.{}.{}\n", at_.kind, at_.first, at_.second));
  }

 private:
  Cursor at_;
  std::string text_;
};

std::string domain_line(const Domain& domain) {
  std::string quotas;
  for (const auto& [quota, value] : domain.own_quotas) {
    quotas += fmt::format("{}{}:{}", quotas.empty() ? "" : ",", quota_name(quota), value);
  }
  std::string line =
      fmt::format("domain domid={} introduced={:d}", raw(domain.domid), domain.is_introduced());
  if (domain.conn) line += fmt::format(" conn={}", raw(*domain.conn));
  if (domain.target) line += fmt::format(" target={}", raw(*domain.target));
  return line + fmt::format(" gfn={} port={} handle={:02x} features={} shutdown={:d} quotas={}\n",
                            domain.gfn, domain.remote_port, fmt::join(domain.handle, ""),
                            domain.features, domain.shutdown, quotas);
}

std::string connection_line(const Connection& conn) {
  const std::uint64_t kept = conn.out.first_kept();
  const std::uint64_t bytes = conn.out.end() - kept;
  std::string line = fmt::format(
      "connection conn={} domid={} is_domain={:d} watches={} next_tx={} out_bytes={} "
      "out_frames={} out_sent={}",
      raw(conn.id), raw(conn.caller.domid), conn.is_domain, conn.watches, conn.last_tx, bytes,
      conn.out.frame_ends(kept).size(), bytes - conn.out.unsent().size());
  if (conn.is_domain) {
    line += fmt::format(" in_off={} partial={} out_off={} resetting={:d} error={}", conn.in_off,
                        conn.partial, static_cast<std::uint32_t>(kept), conn.is_resetting,
                        static_cast<std::uint32_t>(conn.error));
  }
  if (conn.fd.valid()) {
    const Peer peer = peer_of(conn.fd.get());
    line += fmt::format(" kept={:d} pid={} uid={} command={}", conn.kept != nullptr, peer.pid,
                        peer.uid, store::escaped_word(peer.command));
  }
  if (conn.ring) {
    const rings::RingIndices ring = rings::read_indices(*conn.ring->page);
    line += fmt::format(" req_cons={} req_prod={} rsp_cons={} rsp_prod={}", ring.req_cons,
                        ring.req_prod, ring.rsp_cons, ring.rsp_prod);
  }
  return line + '\n';
}

std::string transaction_line(store::ConnId conn, store::TxId id, bool is_doomed) {
  return fmt::format("transaction conn={} id={} doomed={:d}\n", raw(conn), raw(id), is_doomed);
}

std::string watch_line(const store::Watch& watch) {
  const std::string_view token = std::string_view(watch.token).substr(0, kTokenShown);
  return fmt::format(
      "watch conn={} seq={} depth={} relative={:d} token_bytes={} path={} token={}\n",
      raw(watch.conn), watch.seq, watch.depth, watch.relative, watch.token.size(),
      store::escaped_word(watch.path), store::escaped_word(token));
}

}  // namespace

Answer<void> Daemon::control_inspect(std::string_view from) {
  const auto cursor = from.empty() ? Answer<Cursor>(Cursor{}) : parse_cursor(from);
  if (!cursor.has_value()) return tl::unexpected(cursor.error());
  std::vector<store::ConnId> ids;
  for (const auto& [id, conn] : conns_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());

  Lines lines(cursor.value());
  const auto add_domain = [&](const auto& entry) {
    return lines.add({Cursor::kDomains, raw(entry.first), 0},
                     [&] { return domain_line(entry.second); });
  };
  const auto add_connection = [&](store::ConnId id) {
    return lines.add({Cursor::kConnections, raw(id), 0},
                     [&] { return connection_line(*find(id)); });
  };
  const auto add_transactions = [&](store::ConnId id) {
    const auto& open = find(id)->transactions;
    return std::all_of(open.begin(), open.end(), [&](const auto& entry) {
      return lines.add({Cursor::kTransactions, raw(id), raw(entry.first)},
                       [&] { return transaction_line(id, entry.first, entry.second.doomed()); });
    });
  };
  const auto add_watches = [&](store::ConnId id) {
    if (lines.is_past(Cursor::kWatches, id)) return true;
    const auto watches = watches_.of(id);
    return std::all_of(watches.begin(), watches.end(), [&](const store::Watch* watch) {
      return lines.add({Cursor::kWatches, raw(id), watch->seq}, [&] { return watch_line(*watch); });
    });
  };
  const bool is_all = std::all_of(domains_.begin(), domains_.end(), add_domain) &&
                      std::all_of(ids.begin(), ids.end(), add_connection) &&
                      std::all_of(ids.begin(), ids.end(), add_transactions) &&
                      std::all_of(ids.begin(), ids.end(), add_watches);
  reply_ = lines.finish(is_all);
  reply_ += '\0';
  return {};
}

}  // namespace xenstored
