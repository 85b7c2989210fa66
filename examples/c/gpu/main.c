/* Calls a kernel that Segue wrote down (conv_min_tanh.sg): convolution, least channel, tanh. Runs
 * it on a few batches and images, and on a slice of a larger tensor, and compares with a plain
 * loop. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <cuda_runtime_api.h>

#include "conv_min_tanh.h"

enum { IN = 16, OUT = 64, KERNEL = 3 };

static void stop_on(cudaError_t error, const char *what) {
    if (error != cudaSuccess) {
        fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
        exit(1);
    }
}

/* Numbers in [-1, 1) of at most 11 bits, which class tf32 keeps as they are. */
static float *random_numbers(size_t count) {
    float *numbers = malloc(count * sizeof *numbers);
    if (!numbers)
        exit(1);
    for (size_t i = 0; i < count; i++)
        numbers[i] = (float)(rand() % 2048 - 1024) / 1024.0f;
    return numbers;
}

/* On the device, from the host. */
static void *upload(const float *numbers, size_t count) {
    void *memory;
    stop_on(cudaMalloc(&memory, count * sizeof *numbers), "cudaMalloc");
    stop_on(cudaMemcpy(memory, numbers, count * sizeof *numbers, cudaMemcpyHostToDevice), "copy");
    return memory;
}

/* A tensor [n, c, h, w] whose rows are `pitch` elements long. */
static conv_min_tanh_tensor image(void *data, long long n, long long c, long long h, long long w,
                                  long long pitch) {
    conv_min_tanh_tensor tensor = {data, {n, c, h, w}, {c * h * pitch, h * pitch, pitch, 1}};
    return tensor;
}

static double expected(const float *x, const float *weight, const float *bias, int n, int row,
                       int column, int height, int pitch) {
    double least = INFINITY;
    for (int o = 0; o < OUT; o++) {
        double sum = bias[o];
        for (int i = 0; i < IN; i++)
            for (int tap = 0; tap < KERNEL * KERNEL; tap++) {
                int y = row + tap / KERNEL, z = column + tap % KERNEL;
                sum += (double)weight[(o * IN + i) * KERNEL * KERNEL + tap] *
                       x[((size_t)(n * IN + i) * height + y) * pitch + z];
            }
        least = sum < least ? sum : least;
    }
    return tanh(least);
}

/* Returns the largest difference. */
static double try(int batch, int height, int width, int pitch, const float *weight,
                  const float *bias, void *weight_memory, void *bias_memory) {
    int out_height = height - KERNEL + 1, out_width = width - KERNEL + 1;
    size_t in_count = (size_t)batch * IN * height * pitch;
    size_t out_count = (size_t)batch * out_height * out_width;
    float *x = random_numbers(in_count), *y = random_numbers(out_count);
    void *x_memory = upload(x, in_count), *y_memory = upload(y, out_count);
    conv_min_tanh_arguments arguments = {
        .x = image(x_memory, batch, IN, height, width, pitch),
        .weight = image(weight_memory, OUT, IN, KERNEL, KERNEL, KERNEL),
        .bias = {bias_memory, {OUT}, {1}},
        .y = image(y_memory, batch, 1, out_height, out_width, out_width),
    };
    long long workspace = conv_min_tanh_workspace(&arguments);
    if (workspace > 0)
        stop_on(cudaMalloc(&arguments.workspace, (size_t)workspace), "cudaMalloc");
    const char *wrong = conv_min_tanh(&arguments, NULL);
    if (wrong) {
        fprintf(stderr, "conv_min_tanh: %s\n", wrong);
        exit(1);
    }
    stop_on(cudaMemcpy(y, y_memory, out_count * sizeof *y, cudaMemcpyDeviceToHost), "copy");
    double worst = 0;
    for (int n = 0; n < batch; n++)
        for (int row = 0; row < out_height; row++)
            for (int column = 0; column < out_width; column++) {
                double wanted = expected(x, weight, bias, n, row, column, height, pitch);
                size_t at = ((size_t)n * out_height + row) * out_width + column;
                double difference = fabs((double)y[at] - wanted);
                worst = difference <= worst ? worst : difference; /* NaN is the worst */
            }
    stop_on(cudaFree(x_memory), "cudaFree");
    stop_on(cudaFree(y_memory), "cudaFree");
    stop_on(cudaFree(arguments.workspace), "cudaFree");
    free(x);
    free(y);
    return worst;
}

int main(void) {
    static const int sizes[][4] = {/* batch, height, width, pitch of rows */
                                   {2, 64, 64, 64},
                                   {1, 40, 128, 128},
                                   {3, 17, 19, 19},
                                   {2, 20, 21, 24}};
    float *weight = random_numbers(OUT * IN * KERNEL * KERNEL), *bias = random_numbers(OUT);
    for (int i = 0; i < OUT * IN * KERNEL * KERNEL; i++)
        weight[i] /= 8;
    void *weight_memory = upload(weight, OUT * IN * KERNEL * KERNEL);
    void *bias_memory = upload(bias, OUT);
    int wrong = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int *s = sizes[i];
        double worst = try(s[0], s[1], s[2], s[3], weight, bias, weight_memory, bias_memory);
        printf("[%d, %d, %d, %d], rows of %d: largest difference %.2g\n", s[0], IN, s[1], s[2],
               s[3], worst);
        wrong += !(worst < 1e-5);
    }
    stop_on(cudaFree(weight_memory), "cudaFree");
    stop_on(cudaFree(bias_memory), "cudaFree");
    free(weight);
    free(bias);
    return wrong > 0;
}
