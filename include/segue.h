/* Segue: compiles a convolution and the operators that follow it into one kernel.
 *
 * The only public header of libsegue. Build a graph (by calls, or from its text form), compile it
 * for concrete sizes, run the program on your own memory:
 *
 *     sg_context *ctx;  sg_graph *graph;  sg_program *program;
 *     sg_context_create(&ctx);
 *     sg_graph_parse(ctx, text, strlen(text), &graph);
 *     sg_compile(graph, inputs, input_count, NULL, &program);
 *     sg_program_run(program, input_data, output_data, 0);
 *
 * Every call that can fail returns an sg_status; what went wrong stands in a sentence on the
 * context (sg_context_message). Outputs come last and are written only on success. Handles are
 * opaque. A context and its graphs belong to one thread at a time; a program is immutable, may be
 * run from many threads at once, and outlives the context and the graph it came from.
 *
 * Sizes and strides are int64_t; strides are in elements. */
#ifndef SEGUE_H
#define SEGUE_H

#include <stddef.h>
#include <stdint.h>

#define SG_VERSION_MAJOR 0
#define SG_VERSION_MINOR 1
#define SG_VERSION_PATCH 0

#if defined(__GNUC__)
#define SG_API __attribute__((visibility("default")))
#else
#define SG_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sg_status {
    SG_OK = 0,
    SG_INVALID,        /* an argument or a graph breaks a rule; the message says which */
    SG_NOT_APPLICABLE, /* valid, but nothing here runs it faster than its host would */
    SG_OUT_OF_MEMORY,
    SG_IO /* a file could not be read or written */
} sg_status;

typedef enum sg_dtype {
    SG_BOOL,
    SG_F16,
    SG_BF16,
    SG_F32,
    SG_F64,
    SG_OPAQUE, /* a value only the host understands; no size, no layout */
    SG_DTYPE_COUNT
} sg_dtype;

enum { SG_RANK_MAX = 8 };

/* Sizes of a tensor and where its elements lie: element (i, j, ...) is at
 * data + i * stride[0] + j * stride[1] + ... elements. A stride may be zero (broadcast views); it
 * may not be negative. */
typedef struct sg_layout {
    sg_dtype dtype;
    int rank;
    int64_t size[SG_RANK_MAX];
    int64_t stride[SG_RANK_MAX];
} sg_layout;

typedef struct sg_context sg_context;
typedef struct sg_graph sg_graph;
typedef struct sg_partition sg_partition;
typedef struct sg_program sg_program;

/* A value of a graph: an index, dense from 0. */
typedef int32_t sg_value;

/* "major.minor.patch" */
SG_API const char *sg_version(void);

/* ---- context ------------------------------------------------------------------------------- */
SG_API sg_status sg_context_create(sg_context **context);
SG_API void sg_context_destroy(sg_context *context);
/* The sentence that goes with the last status other than SG_OK; "" before the first. Owned by the
 * context, valid until its next failing call. */
SG_API const char *sg_context_message(const sg_context *context);
/* Strings that a call hands out (sg_graph_print, ...) are freed with this. */
SG_API void sg_string_free(char *text);

/* ---- graphs -------------------------------------------------------------------------------- */
SG_API sg_status sg_graph_create(sg_context *context, const char *name, sg_graph **graph);
SG_API void sg_graph_destroy(sg_graph *graph);

/* Reads the text form (docs/text-format.md). length in bytes; no terminator needed. */
SG_API sg_status sg_graph_parse(sg_context *context, const char *text, size_t length,
                                sg_graph **graph);
/* The text form; sg_graph_parse reads it back to an equal graph. */
SG_API sg_status sg_graph_print(const sg_graph *graph, char **text);

/* Adds one statement in the text form, such as "%y = tanh %x", without the graph around it, and
 * returns the value it defines. The builder for programs in C: one call per operator, and no second
 * way to spell an attribute. */
SG_API sg_status sg_graph_add(sg_graph *graph, const char *statement, sg_value *value);

SG_API int sg_graph_input_count(const sg_graph *graph);
SG_API int sg_graph_output_count(const sg_graph *graph);
SG_API sg_value sg_graph_input(const sg_graph *graph, int index);
SG_API sg_value sg_graph_output(const sg_graph *graph, int index);
SG_API const char *sg_graph_value_name(const sg_graph *graph, sg_value value);

/* The pipeline up to a stage, for people: "parse", "simplify" and "regions" work on any graph;
 * "tile" (the tile programs), "plan" (with the planner's choices for this machine), "tail" and
 * "cuda" (what is generated for sm_90a: the part that a graph's operators make, or all of it) need
 * inputs as in sg_compile, else NULL and 0. */
SG_API sg_status sg_graph_dump(const sg_graph *graph, const char *stage, const sg_layout *inputs,
                               int input_count, char **text);

/* Contiguous layouts for the graph's inputs, with symbolic sizes bound by text such as "N=4,H=32".
 * inputs has room for sg_graph_input_count entries. */
SG_API sg_status sg_graph_layouts(const sg_graph *graph, const char *bindings, sg_layout *inputs);

/* ---- regions ------------------------------------------------------------------------------- */
/* Cuts a graph into steps in execution order. A step is one foreign operator, which the host runs,
 * or one region, which Segue can compile as a graph of its own. */
typedef struct sg_step {
    int foreign; /* 1: the host runs it; 0: a region */
    int64_t tag; /* foreign: the operator's tag attribute */
    int input_count, output_count;
    const sg_value *inputs, *outputs; /* values of the partition's graph */
    const sg_graph *graph;            /* region: its own graph, inputs and outputs in that order */
    const char *reason; /* region: why it ends where it ends; foreign: "". Never NULL */
} sg_step;

SG_API sg_status sg_partition_create(const sg_graph *graph, sg_partition **partition);
SG_API void sg_partition_destroy(sg_partition *partition);
SG_API int sg_partition_step_count(const sg_partition *partition);
SG_API const sg_step *sg_partition_step(const sg_partition *partition, int index);
/* The partition's own graph: simplified, with the inputs and outputs of the original in order. */
SG_API const sg_graph *sg_partition_graph(const sg_partition *partition);

/* ---- programs ------------------------------------------------------------------------------ */
typedef struct sg_compile_options {
    int threads;              /* the number to plan for; 0: one per processor */
    const char *isa;          /* "generic", "avx2", "avx512"; NULL: the best this machine has */
    int always;               /* 1: never answer SG_NOT_APPLICABLE */
    int tune;                 /* 1: measure the candidate plans and remember the best as wisdom */
    const sg_layout *outputs; /* where results shall lie, one per output; NULL: contiguous */
    /* GPUs: where a program shall run and how. The fields below mean nothing without gpu. */
    const char *gpu; /* "sm_90a", ...: an architecture; "0", "1", ...: a device of this machine;
                        NULL: the CPU */
    const char *precision; /* of float32 anchors: "fp32", "tf32" (halves away from zero),
                              "tf32_even", or "plain_tf32" (as "tf32", no operand carried in
                              halves); NULL: "fp32" */
    int alignment;         /* bytes that the first element of every tensor is aligned to; 0: 16 */
    const char *strategy; /* the strategy to take, for tests and comparisons; NULL: the planner's */
} sg_compile_options;

/* Compiles for concrete inputs, one layout per graph input in order. Symbolic sizes are bound by
 * the layouts; SG_INVALID when they contradict the graph. SG_NOT_APPLICABLE when the planner
 * expects the operators one by one, as a good library runs them, to be faster (unless
 * options->always). */
SG_API sg_status sg_compile(const sg_graph *graph, const sg_layout *inputs, int input_count,
                            const sg_compile_options *options, sg_program **program);
SG_API void sg_program_destroy(sg_program *program);

SG_API int sg_program_input_count(const sg_program *program);
SG_API int sg_program_output_count(const sg_program *program);
SG_API const sg_layout *sg_program_input(const sg_program *program, int index);
SG_API const sg_layout *sg_program_output(const sg_program *program, int index);

/* Runs on memory laid out as compiled. Inputs and outputs must not overlap. Reads inputs,
 * parameters among them, at every call. threads: at most that many, 0: one per processor.
 * Thread-safe. Fails with SG_OUT_OF_MEMORY, outputs then being undefined, and with SG_INVALID for a
 * program for GPUs. */
SG_API sg_status sg_program_run(const sg_program *program, const void *const *inputs,
                                void *const *outputs, int threads);

/* ---- programs on GPUs ---------------------------------------------------------------------- */
/* The CUDA driver and NVRTC are opened when first needed, by name: the library needs neither to
 * load. Tells where NVRTC lies, as the path of the library; SEGUE_NVRTC in the environment goes
 * before it, the loader's paths after. Has no effect once NVRTC is open. */
SG_API void sg_cuda_set_nvrtc(const char *path);
/* Builds what the program launches for a device (NVRTC, or the cache) and loads it there, so that
 * no launch does; with device -1, builds for the program's architecture without a device. Otherwise
 * the first launch on a device does. On failure the sentence is on the context. Thread-safe. */
SG_API sg_status sg_program_build(const sg_program *program, sg_context *context, int device);
/* Bytes of device memory a launch needs beyond inputs and outputs, aligned to 256; their contents
 * do not matter. */
SG_API int64_t sg_program_workspace(const sg_program *program);
/* Enqueues the program on a stream (a CUstream; NULL: the legacy default) of a device, in the
 * device's primary context. Does not wait, allocate or read anything back; may be captured into a
 * graph once built. Addresses are the device's. SG_INVALID for a misaligned address; SG_IO when
 * the driver refuses. Thread-safe. */
SG_API sg_status sg_program_launch(const sg_program *program, sg_context *context, int device,
                                   void *stream, const void *const *inputs, void *const *outputs,
                                   void *workspace);
/* The generated source of launch `index`, in order; SG_INVALID past the last. */
SG_API sg_status sg_program_source(const sg_program *program, int index, char **text);

/* ---- source to keep ------------------------------------------------------------------------ */
/* A region of a graph as CUDA source that needs nothing of Segue: it builds with nvcc for sm_80 and
 * sm_90a, takes any batch and image, and runs as fast as a compiled program. Tensors are dense, in
 * the order of dimensions of those given. The text says what it is, and declares, for the name
 * NAME,
 *
 *     const char *NAME(addresses of the graph's inputs and outputs, in order, void *workspace if
 *                      there is any, sizes that may vary as long long, cudaStream_t);
 *     long long NAME_workspace(void);   bytes; not declared where none are wanted
 *
 * The function returns null, or why not, in a sentence. Parameters have the values' names with _
 * for what C does not allow; what each tensor's sizes are stands in the comment before. */
typedef enum sg_emit_part {
    SG_EMIT_UNIT,   /* one self-contained unit: NAME.cu with its declarations */
    SG_EMIT_HEADER, /* NAME.h */
    SG_EMIT_SOURCE, /* NAME.cu, which includes NAME.h */
    SG_EMIT_CMAKE   /* CMakeLists.txt that makes a library of the two */
} sg_emit_part;
/* graph: one region, such as a step's. inputs and options: as for sg_compile; without options->gpu
 * for sm_90a. name: a C identifier. text: to be freed with sg_string_free. SG_NOT_APPLICABLE, with
 * a sentence, where no kernel takes the region, or it is not one. */
SG_API sg_status sg_emit_cuda(const sg_graph *graph, const sg_layout *inputs, int input_count,
                              const sg_compile_options *options, const char *name,
                              sg_emit_part part, char **text);

/* The regions of a graph as C source for a CPU, which needs a C11 compiler and its library: for
 * each region, in order of execution, a function that takes any batch and image size and any
 * strides (channels and kernels are constants); foreign operators are left out. Several regions are
 * NAME_1, NAME_2, ...; what the functions take stands in the header (docs/c-files.md). inputs: as
 * for sg_compile, of which only the sizes count. Otherwise as sg_emit_cuda, and with NAME.c. */
SG_API sg_status sg_emit_c(const sg_graph *graph, const sg_layout *inputs, int input_count,
                           const char *name, sg_emit_part part, char **text);

/* Lets programs run on the host's threads instead of Segue's own: no two pools then compete for the
 * processors, and threads that the host keeps awake begin at once. pool(body, argument, threads)
 * calls body(argument) on at most `threads` threads at the same time, the caller among them, and
 * returns when all have returned. For the process, from the next run on; NULL: Segue's own threads.
 */
typedef void (*sg_thread_pool)(void (*body)(void *argument), void *argument, int threads);
SG_API void sg_set_thread_pool(sg_thread_pool pool);

/* What the program does: regions, tile program, bytes and flops against the floor. */
SG_API sg_status sg_program_explain(const sg_program *program, char **text);

/* Work of one run, for reports. */
typedef struct sg_work {
    double flops;          /* multiply and add counted apart, contractions only */
    double bytes;          /* inputs and outputs read or written once */
    int64_t scratch_bytes; /* memory per thread beyond inputs and outputs */
    int kernels;           /* fused kernels in the program */
} sg_work;
SG_API sg_work sg_program_work(const sg_program *program);

/* The same graph in float64, op by op and slowly: the truth that tests compare with. inputs and
 * outputs are contiguous doubles; bool is 0 or 1. */
SG_API sg_status sg_reference_run(const sg_graph *graph, const sg_layout *inputs, int input_count,
                                  const double *const *input_data, double *const *output_data);

/* Sizes and dtypes the outputs have for these inputs, with contiguous strides. outputs has room for
 * sg_graph_output_count entries. */
SG_API sg_status sg_graph_infer(const sg_graph *graph, const sg_layout *inputs, int input_count,
                                sg_layout *outputs);

/* ---- what there is ------------------------------------------------------------------------- */
/* The operator table, row by row, as JSON: for tools and tests. Owned by the library. */
SG_API const char *sg_operators_json(void);
/* This machine as Segue sees it, as JSON: isa, caches, processors, GPUs. Owned by the library. */
SG_API const char *sg_machine_json(void);

/* ---- wisdom -------------------------------------------------------------------------------- */
/* Plans remembered from measuring, as text. Importing is all or nothing. */
SG_API sg_status sg_wisdom_export(sg_context *context, char **text);
SG_API sg_status sg_wisdom_import(sg_context *context, const char *text, size_t length);
SG_API void sg_wisdom_forget(void);

#ifdef __cplusplus
}
#endif

#endif
