/* Simplification: the same function with fewer and plainer operators. Folds constants, merges equal
 * computations, drops dead ones, and applies the identities in rule_*.c, each of which is exact in
 * IEEE terms, NaN, infinities and signed zeros included, or says in its comment why what it changes
 * is left open by ATen. Views come out as reshape and permute alone.
 *
 * Inputs stay, used or not; inputs and outputs keep order, names, dtypes and shapes. Foreign nodes
 * stay in order and are never merged: the host may count on their side effects. Surviving nodes
 * keep their names. */
#ifndef SEGUE_OPT_SIMPLIFY_H
#define SEGUE_OPT_SIMPLIFY_H

#include "ir/graph.h"

/* The caller destroys *simplified; graph is unchanged. */
sg_status sg_simplify(const sg_graph *graph, sg_graph **simplified);

#endif
