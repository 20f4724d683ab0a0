// Texts of statuses, from status.def.
#include "runtime/qcc_rt.h"

const char *qcc_status_text(int status) {
  switch (status) {
#define QCC_STATUS(id, value, text) \
  case id: return text;
#include "runtime/status.def"
#undef QCC_STATUS
    default: return "unknown status";
  }
}
