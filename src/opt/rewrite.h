/* Rewriting: how a rule sees a node. A pass copies a graph node by node into a new one; before a
 * node is added it is a draft, which rules may change or replace by a value that is there already.
 */
#ifndef SEGUE_OPT_REWRITE_H
#define SEGUE_OPT_REWRITE_H

#include "ir/graph.h"

typedef struct sg_rewrite {
    const sg_graph *from; /* sizes mean the same in both */
    sg_graph *to;
    sg_value *map;   /* value of from -> value of to */
    int *uses;       /* by value of from: operands and outputs that it is */
    sg_value *slots; /* equal computations: a hash table of values + 1 */
    unsigned slot_mask;
    int changes;      /* rules applied */
    sg_status status; /* of emitting: out of memory, or a bug of a rule */
} sg_rewrite;

typedef struct sg_draft {
    sg_value original; /* in from */
    sg_op op;
    const char *name;
    int operand_count;
    const sg_value *operands; /* in to */
    sg_attribute attributes[SG_ATTRIBUTES_MAX];
    const sg_type *type; /* which the result must keep */
    sg_value replacement;
} sg_draft;

typedef enum sg_outcome {
    SG_RULE_NONE,     /* does not apply; the draft is as it was */
    SG_RULE_CHANGED,  /* op, operands or attributes are others now */
    SG_RULE_REPLACED, /* replacement is set */
} sg_outcome;

typedef sg_outcome sg_rule(sg_rewrite *rewrite, sg_draft *draft);
sg_rule sg_rule_constant, sg_rule_identity, sg_rule_cast, sg_rule_scalar, sg_rule_power,
    sg_rule_unary, sg_rule_bound, sg_rule_view, sg_rule_reduction;

/* Adds the node as drafted, or finds its equal. */
sg_value sg_emit_draft(sg_rewrite *rewrite, const sg_draft *draft);

/* ---- for rules ----------------------------------------------------------------------------- */

/* Node of an operand of the draft. */
const sg_node *sg_draft_operand(const sg_rewrite *rewrite, const sg_draft *draft, int index);
/* Makes the draft op(operands) with default attributes; those are then the rule's to set. */
void sg_draft_set(sg_rewrite *rewrite, sg_draft *draft, sg_op op, const sg_value *operands,
                  int count);
/* Adds a node, or finds its equal. It is called stem.op. -1 on failure. attributes as in
 * sg_graph_append. */
sg_value sg_emit(sg_rewrite *rewrite, const char *stem, sg_op op, const sg_value *operands,
                 int count, const sg_attribute *attributes);
/* A constant; one that is not weak has the dtype. */
sg_value sg_emit_constant(sg_rewrite *rewrite, double value, bool weak, sg_dtype dtype);
/* Whether a value is a constant, and which number operators see: rounded to its dtype unless weak.
 */
bool sg_constant_value(const sg_rewrite *rewrite, sg_value value, double *number);
/* The same as it takes part in the draft, in the precision that its dtype is computed in. */
bool sg_constant_operand(const sg_rewrite *rewrite, const sg_draft *draft, int index,
                         double *number);
/* Whether the original's operand is used by nothing else. */
bool sg_used_once(const sg_rewrite *rewrite, const sg_draft *draft, int index);
/* By bits, so that signed zeros differ. */
bool sg_same_number(double a, double b);
bool sg_same_attributes(const sg_op_info *info, const sg_attribute *a, const sg_attribute *b);

#endif
