// SPDX-License-Identifier: MIT
/// xenstored-faulty: the daemon, but a value that begins with "please-crash"
/// makes it crash where it would be written. For tests of the poison guard.
#include <csignal>

#include "store/store.h"

using Execute = store::Answer<void>(store::Store* self, const store::TreeOp& op,
                                    const store::Caller& caller, const store::Limits* limits,
                                    std::string& reply);
// NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's.
Execute __real_execute asm(
    "__real__ZN5store5Store7executeERKNS_6TreeOpERKNS_6CallerEPKNS_6LimitsERNSt7__cxx1112basic_"
    "stringIcSt11char_traitsIcESaIcEEE");
Execute __wrap_execute asm(
    "__wrap__ZN5store5Store7executeERKNS_6TreeOpERKNS_6CallerEPKNS_6LimitsERNSt7__cxx1112basic_"
    "stringIcSt11char_traitsIcESaIcEEE");

// NOLINTEND(bugprone-reserved-identifier)

// NOLINTNEXTLINE(bugprone-reserved-identifier)
store::Answer<void> __wrap_execute(store::Store* self, const store::TreeOp& op,
                                   const store::Caller& caller, const store::Limits* limits,
                                   std::string& reply) {
  if (op.value.starts_with("please-crash")) raise(SIGSEGV);
  return __real_execute(self, op, caller, limits, reply);
}
