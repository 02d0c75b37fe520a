// bfloat16 on a CPU: the type and the two conversions that the kernels use.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 v) {
  const uint32_t bits = uint32_t(v.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To nearest, ties to even.
inline __nv_bfloat16 __float2bfloat16_rn(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return {uint16_t(v == v ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fff)};
}
