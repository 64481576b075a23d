// SPDX-License-Identifier: MIT
/// Requests about nodes: parsing of their payloads. What they mean is in store/.
#include <algorithm>

#include "store/path.h"
#include "xenstored/daemon.h"

namespace xenstored {

using store::Answer;
using store::Quota;
using store::TreeOp;
using store::WireError;

Answer<std::string_view> only_string(std::string_view payload) {
  if (payload.empty() || payload.find('\0') != payload.size() - 1) {
    return tl::unexpected(WireError::kInval);
  }
  return payload.substr(0, payload.size() - 1);
}

std::vector<std::string_view> split_strings(std::string_view payload) {
  std::vector<std::string_view> strings;
  for (std::size_t end = payload.find('\0'); end != std::string_view::npos;
       end = payload.find('\0')) {
    strings.push_back(payload.substr(0, end));
    payload.remove_prefix(end + 1);
  }
  return strings;
}

Answer<std::string_view> Daemon::path_arg(const Session& session, std::string_view wire) {
  const store::Limits* limits = limits_of(session.conn);
  const std::size_t path_max =
      limits == nullptr ? limits_[Quota::kPathMax] : (*limits)[Quota::kPathMax];
  return store::node_path(wire, session.conn.caller.domid, path_max, scratch_);
}

Answer<void> Daemon::one_path(Session& session, TreeOp::Kind kind) {
  const auto wire = only_string(session.payload);
  if (!wire.has_value()) return tl::unexpected(wire.error());
  const auto path = path_arg(session, wire.value());
  if (!path.has_value()) return tl::unexpected(path.error());
  return tree_op(session, {.kind = kind, .path = path.value()});
}

Answer<void> Daemon::do_read(Session& session) { return one_path(session, TreeOp::Kind::kRead); }
Answer<void> Daemon::do_directory(Session& session) {
  return one_path(session, TreeOp::Kind::kDirectory);
}
Answer<void> Daemon::do_mkdir(Session& session) { return one_path(session, TreeOp::Kind::kMkdir); }
Answer<void> Daemon::do_rm(Session& session) { return one_path(session, TreeOp::Kind::kRm); }

Answer<void> Daemon::do_get_perms(Session& session) {
  const auto wire = only_string(session.payload);
  const auto special = wire.has_value() ? specials_.find(wire.value()) : specials_.end();
  if (special == specials_.end()) return one_path(session, TreeOp::Kind::kGetPerms);
  if (!allows(access_of(session.conn.caller, special->second), store::Access::kRead)) {
    return tl::unexpected(WireError::kAcces);
  }
  for (const store::PermEntry& entry : special->second) {
    append_perm(entry, reply_);
    reply_ += '\0';
  }
  return {};
}

/// Path NUL offset NUL; the offset as atoi reads it.
Answer<void> Daemon::do_directory_part(Session& session) {
  const auto args = split_strings(session.payload);
  if (args.size() != 2) return tl::unexpected(WireError::kInval);
  const auto path = path_arg(session, args[0]);
  if (!path.has_value()) return tl::unexpected(path.error());
  const long offset = std::clamp(leading_number(args[1]), 0L, 0x7FFFFFFFL);
  return tree_op(session, {.kind = TreeOp::Kind::kDirectoryPart,
                           .path = path.value(),
                           .offset = static_cast<std::uint32_t>(offset)});
}

/// Path NUL value: everything behind the first NUL, whatever bytes it has.
Answer<void> Daemon::do_write(Session& session) {
  const std::size_t nul = session.payload.find('\0');
  if (nul == std::string_view::npos) return tl::unexpected(WireError::kInval);
  const auto path = path_arg(session, session.payload.substr(0, nul));
  if (!path.has_value()) return tl::unexpected(path.error());
  return tree_op(session, {.kind = TreeOp::Kind::kWrite,
                           .path = path.value(),
                           .value = session.payload.substr(nul + 1)});
}

/// The checks are in C xenstored's order: count, quota, parsing, existence of
/// the owner, then the node.
Answer<void> Daemon::do_set_perms(Session& session) {
  auto args = split_strings(session.payload);
  if (args.size() < 2) return tl::unexpected(WireError::kInval);
  const std::string_view wire = args.front();
  args.erase(args.begin());
  const store::Limits* limits = limits_of(session.conn);
  if (limits != nullptr && args.size() > (*limits)[Quota::kNodePermissions]) {
    note_refusal(session.conn, Quota::kNodePermissions);
    return tl::unexpected(WireError::kNospc);
  }
  auto perms = perms_arg(session, args);
  if (!perms.has_value()) return tl::unexpected(perms.error());
  if (wire.starts_with('@')) return set_special_perms(session, wire, std::move(perms.value()));
  const auto path = path_arg(session, wire);
  if (!path.has_value()) return tl::unexpected(path.error());
  return tree_op(session,
                 {.kind = TreeOp::Kind::kSetPerms, .path = path.value(), .perms = perms.value()});
}

/// Entries that name domains that are not there are kept, but grant nothing,
/// also not to a later domain of that id (XSA-417).
Answer<store::Perms> Daemon::perms_arg(const Session& session,
                                       const std::vector<std::string_view>& entries) {
  store::Perms perms;
  const Domain* own = find_domain(session.conn.caller.domid);
  const bool may_name_any =
      session.conn.caller.privileged || (own != nullptr && (own->features & kFeatureDomidAny) != 0);
  for (const std::string_view text : entries) {
    auto entry = store::parse_perm(text);
    if (!entry.has_value()) return tl::unexpected(entry.error());
    const bool is_any = entry.value().domid == store::kDomidAny && may_name_any && !perms.empty();
    entry.value().stale = !is_any && !exists(entry.value().domid);
    perms.push_back(entry.value());
  }
  if (perms.front().stale) return tl::unexpected(WireError::kNoent);
  return perms;
}

Answer<void> Daemon::set_special_perms(Session& session, std::string_view name,
                                       store::Perms perms) {
  const auto special = specials_.find(name);
  if (special == specials_.end()) return tl::unexpected(WireError::kInval);
  if (!session.conn.caller.privileged) return tl::unexpected(WireError::kAcces);
  if (!journal_.reserve(journal_.space_for_put(perms.size() * 3))) {
    return tl::unexpected(WireError::kNospc);
  }
  special->second = std::move(perms);
  save_special(name);
  reply_.assign("OK", 3);
  return {};
}

}  // namespace xenstored
