/* Loads of what nobody writes, that happen or give zero. */

/* An element, or zero. In one piece: left to itself the compiler makes every address anew, behind
 * the condition. */
__device__ __forceinline__ float load_if(bool present, const float *from) {
    float value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %2, 0;\n\t"
                 "mov.f32 %0, 0f00000000;\n\t"
                 "@present ld.global.nc.f32 %0, [%1];\n\t}"
                 : "=f"(value)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}
__device__ __forceinline__ float4 load_four_if(bool present, const float *from) {
    float4 value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %5, 0;\n\t"
                 "mov.f32 %0, 0f00000000;\n\tmov.f32 %1, 0f00000000;\n\t"
                 "mov.f32 %2, 0f00000000;\n\tmov.f32 %3, 0f00000000;\n\t"
                 "@present ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];\n\t}"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}

template <class T> __device__ __forceinline__ T load_if(bool present, const T *from) {
    T value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %2, 0;\n\t"
                 "mov.b16 %0, 0;\n\t"
                 "@present ld.global.nc.b16 %0, [%1];\n\t}"
                 : "=h"(value.bits)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}
__device__ __forceinline__ unsigned load_4_bytes_if(bool present, const void *from) {
    unsigned value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %2, 0;\n\t"
                 "mov.b32 %0, 0;\n\t"
                 "@present ld.global.nc.b32 %0, [%1];\n\t}"
                 : "=r"(value)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}
__device__ __forceinline__ uint2 load_8_bytes_if(bool present, const void *from) {
    uint2 value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %3, 0;\n\t"
                 "mov.b32 %0, 0;\n\tmov.b32 %1, 0;\n\t"
                 "@present ld.global.nc.v2.b32 {%0, %1}, [%2];\n\t}"
                 : "=r"(value.x), "=r"(value.y)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}
__device__ __forceinline__ uint4 load_16_bytes_if(bool present, const void *from) {
    uint4 value;
    asm volatile("{\n\t.reg .pred present;\n\t"
                 "setp.ne.b32 present, %5, 0;\n\t"
                 "mov.b32 %0, 0;\n\tmov.b32 %1, 0;\n\t"
                 "mov.b32 %2, 0;\n\tmov.b32 %3, 0;\n\t"
                 "@present ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];\n\t}"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(from), "r"(static_cast<int>(present)));
    return value;
}
