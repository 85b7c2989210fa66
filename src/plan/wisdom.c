#include "plan/wisdom.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static const char HEADER[] = "segue-wisdom 1";

typedef struct sg_wisdom_entry {
    char *key;
    char strategy[32];
    sg_cpu_plan plan;
    char *gpu_plan; /* keys of GPUs: "name=number ..." in place of the plan; else NULL */
} sg_wisdom_entry;

typedef struct sg_wisdom {
    sg_wisdom_entry *entries;
    int count;
} sg_wisdom;

static sg_wisdom wisdom;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- keys ---------------------------------------------------------------------------------- */

static void add_numbers(sg_text *text, const char *name, const int64_t *values, int count) {
    for (int i = 0; i < count; i++)
        sg_text_add(text, "%s%" PRId64, i ? "," : name, values[i]);
}

/* Adds what the problem has to do with it to `text`, which begins with the machine. NULL when
 * memory ran out; to be freed. */
static char *finish_key(sg_text text, const sg_problem *problem) {
    sg_text_add(&text, " %s", sg_dtype_name(problem->compute));
    add_numbers(&text, " size=", problem->size, SG_ROLE_COUNT);
    sg_text_add(&text, " walk=%u", problem->walk);
    if (problem->has_convolution) {
        const sg_convolution *convolution = &problem->convolution;
        sg_text_add(&text, " in=%" PRId64 " groups=%" PRId64 " from=%s", convolution->in_channels,
                    convolution->groups, sg_dtype_name(convolution->input.dtype));
        add_numbers(&text, " kernel=", convolution->kernel, SG_SPATIAL_MAX);
        add_numbers(&text, " stride=", convolution->stride, SG_SPATIAL_MAX);
        add_numbers(&text, " padding=", convolution->padding, SG_SPATIAL_MAX);
        add_numbers(&text, " dilation=", convolution->dilation, SG_SPATIAL_MAX);
        add_numbers(&text, " lies=", convolution->input.stride, SG_ROLE_COUNT);
    }
    for (int i = 0; i < problem->access_count; i++)
        add_numbers(&text, " reads=", problem->accesses[i].operand.stride, SG_ROLE_COUNT);
    for (int i = 0; i < problem->output_count; i++)
        add_numbers(&text, " writes=", problem->outputs[i].stride, SG_ROLE_COUNT);
    sg_text_add(&text, " ops=");
    for (sg_value value = 0; value < problem->region->graph->node_count; value++) {
        if (problem->region->members[value].in)
            sg_text_add(&text, "%s;",
                        sg_op_get(sg_graph_node(problem->region->graph, value)->op)->name);
    }
    return sg_text_take(&text);
}

static char *make_key(const sg_problem *problem, const sg_target *target) {
    sg_text text = {0};
    sg_text_add(&text, "%s/%d", sg_isa_get(target->isa)->name, target->threads);
    return finish_key(text, problem);
}

static const char GPU_KEY[] = "gpu ";

static char *make_gpu_key(const sg_problem *problem, const sg_cuda_target *target) {
    static const char *const precisions[SG_PRECISION_COUNT] = {"fp32", "tf32", "tf32_even",
                                                               "plain_tf32"};
    sg_text text = {0};
    sg_text_add(&text, "%s%s %s/%d", GPU_KEY, target->gpu.name, precisions[target->precision],
                target->alignment);
    return finish_key(text, problem);
}

/* ---- the table; callers hold the lock ------------------------------------------------------- */

static sg_wisdom_entry *find_entry(const sg_wisdom *table, const char *key) {
    for (int i = 0; i < table->count; i++) {
        if (strcmp(table->entries[i].key, key) == 0)
            return &table->entries[i];
    }
    return NULL;
}

static void clear(sg_wisdom *table) {
    for (int i = 0; i < table->count; i++) {
        free(table->entries[i].key);
        free(table->entries[i].gpu_plan);
    }
    free(table->entries);
    *table = (sg_wisdom){0};
}

/* The entry of a key, made if there is none. NULL when memory ran out. */
static sg_wisdom_entry *make_entry(sg_wisdom *table, const char *key) {
    sg_wisdom_entry *entry = find_entry(table, key);
    if (entry)
        return entry;
    sg_wisdom_entry *entries =
        realloc(table->entries, sizeof *entries * (size_t)(table->count + 1));
    if (!entries)
        return NULL;
    table->entries = entries;
    char *copy = strdup(key);
    if (!copy)
        return NULL;
    entry = &entries[table->count++];
    *entry = (sg_wisdom_entry){.key = copy};
    return entry;
}

/* Copies the strings; false when memory ran out. gpu_plan: NULL where plan counts. */
static bool put(sg_wisdom *table, const char *key, const char *strategy, const sg_cpu_plan *plan,
                const char *gpu_plan) {
    char *copy = gpu_plan ? strdup(gpu_plan) : NULL;
    sg_wisdom_entry *entry = gpu_plan && !copy ? NULL : make_entry(table, key);
    if (!entry) {
        free(copy);
        return false;
    }
    free(entry->gpu_plan);
    entry->gpu_plan = copy;
    snprintf(entry->strategy, sizeof entry->strategy, "%s", strategy);
    if (plan)
        entry->plan = *plan;
    return true;
}

bool sg_wisdom_find(const sg_problem *problem, const sg_target *target, char *strategy,
                    size_t strategy_size, sg_cpu_plan *plan) {
    pthread_mutex_lock(&lock);
    char *key = wisdom.count ? make_key(problem, target) : NULL;
    const sg_wisdom_entry *entry = key ? find_entry(&wisdom, key) : NULL;
    if (entry) {
        snprintf(strategy, strategy_size, "%s", entry->strategy);
        *plan = entry->plan;
    }
    pthread_mutex_unlock(&lock);
    free(key);
    return entry != NULL;
}

sg_status sg_wisdom_remember(const sg_problem *problem, const sg_target *target,
                             const char *strategy, const sg_cpu_plan *plan) {
    char *key = make_key(problem, target);
    pthread_mutex_lock(&lock);
    bool ok = key && put(&wisdom, key, strategy, plan, NULL);
    pthread_mutex_unlock(&lock);
    free(key);
    return ok ? SG_OK : sg_fail_memory(problem->region->graph->context);
}

/* ---- plans of GPUs -------------------------------------------------------------------------- */

/* Also among the numbers of a plan: what it was measured to take. */
static const char NANOSECONDS[] = "ns";

/* The number after "name=" in "name=number ...". */
static bool find_number(const char *text, const char *name, int64_t *value) {
    size_t length = strlen(name);
    for (const char *at = text; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            *value = strtoll(at + length + 1, NULL, 10);
            return true;
        }
    }
    return false;
}

bool sg_wisdom_find_gpu(const sg_problem *problem, const sg_cuda_target *target,
                        const sg_cuda_strategy *strategy, sg_cuda_plan *plan, double *seconds) {
    pthread_mutex_lock(&lock);
    char *key = wisdom.count ? make_gpu_key(problem, target) : NULL;
    const sg_wisdom_entry *entry = key ? find_entry(&wisdom, key) : NULL;
    int64_t nanoseconds = 0;
    bool found = entry && entry->gpu_plan && strcmp(entry->strategy, strategy->name) == 0 &&
                 find_number(entry->gpu_plan, NANOSECONDS, &nanoseconds) && nanoseconds > 0;
    *plan = (sg_cuda_plan){{0}};
    for (int i = 0; found && strategy->parameters[i]; i++)
        found = find_number(entry->gpu_plan, strategy->parameters[i], &plan->parameter[i]);
    *seconds = (double)nanoseconds * 1e-9;
    pthread_mutex_unlock(&lock);
    free(key);
    return found;
}

sg_status sg_wisdom_remember_gpu(const sg_problem *problem, const sg_cuda_target *target,
                                 const sg_cuda_strategy *strategy, const sg_cuda_plan *plan,
                                 double seconds) {
    char *key = make_gpu_key(problem, target);
    sg_text text = {0};
    for (int i = 0; strategy->parameters[i]; i++)
        sg_text_add(&text, "%s=%" PRId64 " ", strategy->parameters[i], plan->parameter[i]);
    sg_text_add(&text, "%s=%" PRId64, NANOSECONDS, (int64_t)(seconds * 1e9 + 1));
    pthread_mutex_lock(&lock);
    bool ok = key && !text.failed && put(&wisdom, key, strategy->name, NULL, text.data);
    pthread_mutex_unlock(&lock);
    sg_text_release(&text);
    free(key);
    return ok ? SG_OK : sg_fail_memory(problem->region->graph->context);
}

/* ---- text ---------------------------------------------------------------------------------- */

void sg_wisdom_forget(void) {
    pthread_mutex_lock(&lock);
    clear(&wisdom);
    pthread_mutex_unlock(&lock);
}

sg_status sg_wisdom_export(sg_context *context, char **text) {
    sg_text out = {0};
    sg_text_add(&out, "%s\n", HEADER);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < wisdom.count; i++) {
        const sg_wisdom_entry *entry = &wisdom.entries[i];
        sg_text_add(&out, "%s = %s", entry->key, entry->strategy);
        if (entry->gpu_plan) {
            sg_text_add(&out, " %s\n", entry->gpu_plan);
            continue;
        }
        add_numbers(&out, " box=", entry->plan.box, 3);
        sg_text_add(&out, " run=%" PRId64 " chunk=%" PRId64 " sum=%" PRId64 "\n", entry->plan.run,
                    entry->plan.chunk, entry->plan.sum);
    }
    pthread_mutex_unlock(&lock);
    *text = sg_text_take(&out);
    return *text ? SG_OK : sg_fail_memory(context);
}

/* A plan that no planner would write must not reach a kernel. */
static bool sane(const sg_cpu_plan *plan) {
    bool ok = plan->run > 0 && plan->run <= 1 << 20 && plan->run % SG_RUN_STEP == 0;
    for (int axis = 0; axis < 3; axis++)
        ok = ok && plan->box[axis] > 0 && plan->box[axis] <= 1 << 24;
    return ok && plan->chunk > 0 && plan->chunk <= 1 << 24 && plan->sum > 0;
}

/* The number after name; moves *at behind it. False when something else stands there. */
static bool read_number(char **at, const char *name, int64_t *value) {
    size_t length = strlen(name);
    if (strncmp(*at, name, length) != 0)
        return false;
    char *digits = *at + length;
    errno = 0;
    *value = strtoll(digits, at, 10);
    return errno == 0 && *at != digits;
}

/* Whether text is "name=number name=number ..." and nothing else. What the names mean is for the
 * strategy to say; one that is gone since, or has other parameters now, is passed over. */
static bool is_gpu_plan(char *text) {
    for (char *at = text;; at++) {
        size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz_0123456789");
        int64_t value;
        at += length;
        if (length == 0 || !read_number(&at, "=", &value))
            return false;
        if (*at != ' ')
            return *at == '\0';
    }
}

static bool is_cpu_plan(char *at, sg_cpu_plan *plan) {
    bool read = read_number(&at, "box=", &plan->box[0]) && read_number(&at, ",", &plan->box[1]) &&
                read_number(&at, ",", &plan->box[2]) && read_number(&at, " run=", &plan->run) &&
                read_number(&at, " chunk=", &plan->chunk) && read_number(&at, " sum=", &plan->sum);
    return read && *at == '\0' && sane(plan);
}

static bool read_line(sg_wisdom *table, char *line) {
    char *middle = strstr(line, " = ");
    sg_cpu_plan plan;
    if (!middle)
        return false;
    *middle = '\0';
    char *strategy = middle + 3, *at = strchr(strategy, ' ');
    if (!at || at == strategy)
        return false;
    *at++ = '\0';
    if (strncmp(line, GPU_KEY, sizeof GPU_KEY - 1) == 0)
        return is_gpu_plan(at) && put(table, line, strategy, NULL, at);
    return is_cpu_plan(at, &plan) && put(table, line, strategy, &plan, NULL);
}

sg_status sg_wisdom_import(sg_context *context, const char *text, size_t length) {
    if (memchr(text, '\0', length))
        return sg_fail(context, SG_INVALID, "wisdom: the text holds a zero byte");
    char *copy = strndup(text, length);
    if (!copy)
        return sg_fail_memory(context);
    sg_wisdom read = {0};
    int number = 0;
    bool ok = true;
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line && ok; line = strsep(&rest, "\n")) {
        number++;
        if (number == 1)
            ok = strcmp(line, HEADER) == 0;
        else
            ok = line[0] == '\0' || read_line(&read, line);
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < read.count && ok; i++) {
        const sg_wisdom_entry *entry = &read.entries[i];
        ok = put(&wisdom, entry->key, entry->strategy, &entry->plan, entry->gpu_plan);
    }
    pthread_mutex_unlock(&lock);
    clear(&read);
    free(copy);
    return ok ? SG_OK
              : sg_fail(context, SG_INVALID,
                        "wisdom: line %d is not of the form \"key = strategy "
                        "box=D,H,W run=R chunk=C sum=S\", or \"gpu key = strategy "
                        "name=number ...\", under the header \"%s\"",
                        number, HEADER);
}
