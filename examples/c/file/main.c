/* Runs the function of conv_min_tanh.c on an image and compares it with plain loops in double.
 *
 * Prints the largest difference; exits with 1 when anything fails. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "conv_min_tanh.h"

enum { IMAGES = 2, IN = 16, OUT = 32, KERNEL = 3, HEIGHT = 20, WIDTH = 45 };
enum { OUT_HEIGHT = HEIGHT - KERNEL + 1, OUT_WIDTH = WIDTH - KERNEL + 1 };

static float x[IMAGES][IN][HEIGHT][WIDTH], weight[OUT][IN][KERNEL][KERNEL], bias[OUT];
static float y[IMAGES][1][OUT_HEIGHT][OUT_WIDTH];

/* count numbers of a fixed sequence in [-0.25, 0.25). */
static void draw(float *to, size_t count) {
    static uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        to[i] = (float)(state >> 8) * 0x1p-25F - 0.25F;
    }
}

static double exact(int n, int h, int w) {
    double least = INFINITY;
    for (int o = 0; o < OUT; o++) {
        double sum = bias[o];
        for (int i = 0; i < IN; i++)
            for (int kh = 0; kh < KERNEL; kh++)
                for (int kw = 0; kw < KERNEL; kw++)
                    sum += (double)x[n][i][h + kh][w + kw] * weight[o][i][kh][kw];
        least = sum < least ? sum : least;
    }
    return tanh(tanh(least));
}

int main(void) {
    draw(&x[0][0][0][0], sizeof x / sizeof(float));
    draw(&weight[0][0][0][0], sizeof weight / sizeof(float));
    draw(bias, OUT);

    void *workspace = malloc(conv_min_tanh_workspace());
    /* No tensor has gaps, so none needs strides. */
    int code = conv_min_tanh(IMAGES, HEIGHT, WIDTH, &x[0][0][0][0], NULL, &weight[0][0][0][0], NULL,
                             bias, NULL, &y[0][0][0][0], NULL, workspace);
    free(workspace);
    if (code != 0) {
        fprintf(stderr, "%s\n", conv_min_tanh_error(code));
        return EXIT_FAILURE;
    }
    double worst = 0;
    int wrong = 0;
    for (int n = 0; n < IMAGES; n++)
        for (int h = 0; h < OUT_HEIGHT; h++)
            for (int w = 0; w < OUT_WIDTH; w++) {
                double difference = fabs(y[n][0][h][w] - exact(n, h, w));
                worst = difference > worst ? difference : worst;
                wrong += !(difference < 1e-6); /* NaN is wrong too */
            }
    printf("largest difference from double: %.2g, %d wrong\n", worst, wrong);
    return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
