/* `mma`, as far as it goes without a GPU: which plans there are. */
#include <math.h>

#include "graphs.h"
#include "plan/cuda/mma.h"
#include "tensor.h"
#include "unit.h"

enum { INPUTS_MAX = 8 };

typedef struct prepared {
    sg_context *context;
    sg_graph *graph;
    sg_arena arena;
    sg_region region;
    sg_problem problem;
    sg_cuda_target target;
} prepared;

/* Statements that are one region, with contiguous operands. */
static bool open(const char *lines, const char *architecture, sg_precision precision,
                 prepared *made) {
    sg_layout inputs[INPUTS_MAX], outputs[INPUTS_MAX];
    *made = (prepared){.target = {.precision = precision, .alignment = 16}};
    if (sg_context_create(&made->context) != SG_OK)
        return false;
    made->graph = graph_of_lines(made->context, lines);
    if (!made->graph || !sg_gpu_find(architecture, &made->target.gpu))
        return false;
    for (int i = 0; i < made->graph->input_count; i++) {
        const sg_type *type = &sg_graph_node(made->graph, made->graph->inputs[i])->type;
        inputs[i] = (sg_layout){.dtype = type->dtype, .rank = type->rank};
        for (int dim = 0; dim < type->rank; dim++)
            inputs[i].size[dim] = type->size[dim];
        tensor_make_contiguous(&inputs[i]);
    }
    return sg_graph_infer(made->graph, inputs, made->graph->input_count, outputs) == SG_OK &&
           sg_region_open(made->graph, &made->region) == SG_OK && sg_region_cover(&made->region) &&
           sg_problem_create(&made->region, inputs, outputs, &made->arena, &made->problem) == SG_OK;
}

static void close(prepared *made) {
    sg_region_close(&made->region);
    sg_arena_release(&made->arena);
    sg_graph_destroy(made->graph);
    sg_context_destroy(made->context);
}

static const char MIN[] = "%x = input : f32[4, 64, 40, 50]\n%w = input : f32[128, 64, 3, 3]\n"
                          "%c = convolution %x, %w\n"
                          "%y = amin %c {dim=[1], keepdim=true}\noutput %y";
static const char RELU[] = "%x = input : f32[2, 32, 40, 50]\n%w = input : f32[96, 16, 3, 3]\n"
                           "%c = convolution %x, %w {groups=2}\n%y = relu %c\noutput %y";
static const char WALK[] = "%x = input : f32[3, 3, 9, 12, 33]\n%w = input : f32[24, 3, 3, 3, 3]\n"
                           "%c = convolution %x, %w\n%m = amin %c {dim=[2], keepdim=true}\n"
                           "%y = softmax %m {dim=1}\noutput %y";
static const char WIDE[] = "%x = input : f32[2, 8, 20, 20]\n%w = input : f32[600, 8, 3, 3]\n"
                           "%c = convolution %x, %w\n%y = softmax %c {dim=1}\noutput %y";
static const char FEW[] = "%x = input : f32[2, 2, 20, 20]\n%w = input : f32[16, 2, 3, 3]\n"
                          "%c = convolution %x, %w\n%y = relu %c\noutput %y";
static const char DOUBLES[] = "%x = input : f64[2, 8, 20, 20]\n%w = input : f64[16, 8, 3, 3]\n"
                              "%c = convolution %x, %w\n%y = relu %c\noutput %y";
static const char FEW_DOUBLES[] = "%x = input : f64[2, 4, 20, 20]\n%w = input : f64[16, 4, 3, 3]\n"
                                  "%c = convolution %x, %w\n%y = relu %c\noutput %y";

TEST(candidates_are_usable_and_fit) {
    static const char *const texts[] = {MIN, RELU, WALK, DOUBLES};
    static const char *const architectures[] = {"sm_80", "sm_86", "sm_90a"};
    for (int i = 0; i < 12; i++) {
        if (i / 4 == 1 && texts[i % 4] == DOUBLES)
            continue;
        for (sg_precision precision = 0; precision < SG_PRECISION_COUNT; precision++) {
            prepared made;
            sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
            char reason[SG_REASON_MAX];
            CASE("%s %d\n%s", architectures[i / 4], (int)precision, texts[i % 4]);
            if (EXPECT(open(texts[i % 4], architectures[i / 4], precision, &made))) {
                EXPECT(sg_cuda_mma.applicable(&made.problem, &made.target, reason));
                int count = sg_cuda_mma.candidates(&made.problem, &made.target, plans);
                EXPECT(count > 0);
                for (int k = 0; k < count; k++) {
                    sg_mma mma;
                    EXPECT(sg_mma_measure(&made.problem, &made.target, &plans[k], &mma));
                    EXPECT(mma.shared <= made.target.gpu.shared_block);
                    EXPECT(mma.threads * mma.blocks <= 2048);
                    EXPECT(isfinite(sg_cuda_mma.cost(&made.problem, &made.target, &plans[k])));
                }
            }
            close(&made);
        }
    }
}

TEST(plans_that_do_not_suit_are_refused) {
    prepared made;
    sg_cuda_plan plans[SG_CUDA_CANDIDATES_MAX];
    if (EXPECT(open(MIN, "sm_90a", SG_PRECISION_TF32, &made))) {
        EXPECT(sg_cuda_mma.candidates(&made.problem, &made.target, plans) > 0);
        for (int i = 0; i < 11; i++) {
            sg_cuda_plan plan = plans[0];
            CASE("%s", sg_cuda_mma.parameters[i]);
            plan.parameter[i] = 0;
            EXPECT(i == 9 || !sg_cuda_mma.usable(&made.problem, &made.target, &plan));
            plan.parameter[i] = 1 << 20;
            EXPECT(!sg_cuda_mma.usable(&made.problem, &made.target, &plan));
        }
    }
    close(&made);
}

TEST(what_cannot_be_taken_is_told) {
    static const struct {
        const char *text, *architecture, *reason;
    } refused[] = {
        {WIDE, "sm_90a", "a block holds at most 512"},
        {FEW, "sm_90a", "sums of 18 products round less"},
        {DOUBLES, "sm_86", "doubles no faster than threads do"},
        {FEW_DOUBLES, "sm_90a", "sums of 36 products round less"},
    };
    for (int i = 0; i < 4; i++) {
        prepared made;
        char reason[SG_REASON_MAX] = "";
        CASE("%s", refused[i].text);
        if (EXPECT(open(refused[i].text, refused[i].architecture, SG_PRECISION_FP32, &made))) {
            EXPECT(!sg_cuda_mma.applicable(&made.problem, &made.target, reason));
            EXPECT_CONTAINS(reason, refused[i].reason);
        }
        close(&made);
    }
}
