// SPDX-License-Identifier: MIT
/// Result<T, E>: a value or an error, never ignored by accident; and the
/// errors that xenstore has on the wire.
#pragma once

#include <tl/expected.hpp>

namespace store {

template <class T, class E>
class [[nodiscard]] Result : public tl::expected<T, E> {
 public:
  using tl::expected<T, E>::expected;
};

/// The errors of xs_wire.h (xsd_errors); each is sent as its own name. There is
/// no EQUOTA: libxenstore and Linux do not know it (semantics of C xenstored).
enum class WireError {
  kInval,
  kAcces,
  kExist,
  kIsdir,
  kNoent,
  kNomem,
  kNospc,
  kIo,
  kNotempty,
  kNosys,
  kRofs,
  kBusy,
  kAgain,
  kIsconn,
  kTooBig,
  kPerm,
};

template <class T>
using Answer = Result<T, WireError>;

}  // namespace store
