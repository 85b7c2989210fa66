/* Mathematical constants that the op table's expressions name, for the reference interpreter and
 * the kernels alike. Literals carry more digits than a double holds. */
#ifndef SEGUE_IR_CONSTANTS_H
#define SEGUE_IR_CONSTANTS_H

/* Klambauer et al., Self-Normalizing Neural Networks (2017). */
#define SG_SELU_SCALE 1.0507009873554804934193349852946
#define SG_SELU_ALPHA 1.6732632423543772848170429916717

#define SG_SQRT_HALF 0.70710678118654752440084436210485

/* The tanh form of GELU: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
#define SG_SQRT_TWO_OVER_PI 0.79788456080286535587989211986876
#define SG_GELU_CUBIC       0.044715

#endif
