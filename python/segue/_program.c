/* Program: a graph compiled for concrete layouts, for the CPU or a GPU. Immutable, so it runs
 * without the interpreter's lock and from many threads. */
#include "_core.h"

#include <string.h>

PyTypeObject *sgpy_program_type;

static PyObject *compile(sgpy_graph *graph, PyObject *inputs, PyObject *outputs,
                         sg_compile_options *options) {
    sg_layout *in = NULL, *out = NULL;
    int in_count, out_count;
    sg_program *program = NULL;
    if (sgpy_layouts_from(inputs, &in, &in_count) == 0 &&
        sgpy_layouts_from(outputs, &out, &out_count) == 0) {
        if (out && out_count != sg_graph_output_count(graph->graph)) {
            PyErr_Format(sgpy_error, "%d output layouts for %d outputs, as many are needed",
                         out_count, sg_graph_output_count(graph->graph));
        } else {
            options->outputs = out;
            sg_status status = sg_compile(graph->graph, in, in_count, options, &program);
            if (status != SG_OK)
                sgpy_raise(status, graph->context);
        }
    }
    PyMem_Free(in);
    PyMem_Free(out);
    if (!program)
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(sgpy_program_type, Py_tp_alloc);
    sgpy_program *self = (sgpy_program *)allocate(sgpy_program_type, 0);
    if (!self)
        sg_program_destroy(program);
    else
        self->program = program;
    return (PyObject *)self;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)type;
    static char *names[] = {"graph", "inputs", "outputs",   "threads",   "isa",      "always",
                            "tune",  "gpu",    "precision", "alignment", "strategy", NULL};
    PyObject *graph, *inputs, *outputs = Py_None;
    sg_compile_options options = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|Oizppzziz:Program", names, sgpy_graph_type,
                                     &graph, &inputs, &outputs, &options.threads, &options.isa,
                                     &options.always, &options.tune, &options.gpu,
                                     &options.precision, &options.alignment, &options.strategy))
        return NULL;
    return compile((sgpy_graph *)graph, inputs, outputs, &options);
}

static void program_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    sg_program_destroy(((sgpy_program *)object)->program);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* Addresses of a program's inputs and outputs, both freed by the caller; -1 with an exception. */
static int read_addresses(const sg_program *program, PyObject *in, PyObject *out, void ***inputs,
                          void ***outputs) {
    int input_count, output_count;
    if (sgpy_pointers_from(in, inputs, &input_count) < 0 ||
        sgpy_pointers_from(out, outputs, &output_count) < 0)
        return -1;
    if (input_count == sg_program_input_count(program) &&
        output_count == sg_program_output_count(program))
        return 0;
    PyErr_Format(sgpy_error, "%d input and %d output addresses for a program with %d and %d",
                 input_count, output_count, sg_program_input_count(program),
                 sg_program_output_count(program));
    return -1;
}

static PyObject *program_run(PyObject *object, PyObject *args) {
    const sg_program *program = ((sgpy_program *)object)->program;
    PyObject *in, *out;
    int threads = 0;
    if (!PyArg_ParseTuple(args, "OO|i:run", &in, &out, &threads))
        return NULL;
    void **inputs = NULL, **outputs = NULL;
    PyObject *result = NULL;
    if (read_addresses(program, in, out, &inputs, &outputs) == 0) {
        sg_status status;
        Py_BEGIN_ALLOW_THREADS status =
            sg_program_run(program, (const void *const *)inputs, outputs, threads);
        Py_END_ALLOW_THREADS result =
            status == SG_OK ? Py_NewRef(Py_None) : sgpy_raise(status, NULL);
    }
    PyMem_Free(inputs);
    PyMem_Free(outputs);
    return result;
}

static PyObject *program_build(PyObject *object, PyObject *args) {
    const sg_program *program = ((sgpy_program *)object)->program;
    int device = -1;
    if (!PyArg_ParseTuple(args, "|i:build", &device))
        return NULL;
    sg_context *context = NULL;
    sg_status status = sg_context_create(&context);
    if (status == SG_OK) {
        Py_BEGIN_ALLOW_THREADS status = sg_program_build(program, context, device);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = status == SG_OK ? Py_NewRef(Py_None) : sgpy_raise(status, context);
    sg_context_destroy(context);
    return result;
}

int sgpy_launch(const sg_program *program, int device, void *stream, const void *const *inputs,
                void *const *outputs, void *workspace) {
    /* A context belongs to one thread at a time, and making one costs less than keeping one. */
    sg_context *context = NULL;
    sg_status status;
    Py_BEGIN_ALLOW_THREADS status = sg_context_create(&context);
    if (status == SG_OK)
        status = sg_program_launch(program, context, device, stream, inputs, outputs, workspace);
    Py_END_ALLOW_THREADS if (status != SG_OK) sgpy_raise(status, context);
    sg_context_destroy(context);
    return status == SG_OK ? 0 : -1;
}

static PyObject *program_launch(PyObject *object, PyObject *args) {
    const sg_program *program = ((sgpy_program *)object)->program;
    PyObject *in, *out, *stream, *workspace = NULL;
    int device;
    if (!PyArg_ParseTuple(args, "iO!OO|O!:launch", &device, &PyLong_Type, &stream, &in, &out,
                          &PyLong_Type, &workspace))
        return NULL;
    void **inputs = NULL, **outputs = NULL;
    void *queue = PyLong_AsVoidPtr(stream);
    void *scratch = workspace && !PyErr_Occurred() ? PyLong_AsVoidPtr(workspace) : NULL;
    int failed =
        PyErr_Occurred() || read_addresses(program, in, out, &inputs, &outputs) < 0 ||
        sgpy_launch(program, device, queue, (const void *const *)inputs, outputs, scratch) < 0;
    PyMem_Free(inputs);
    PyMem_Free(outputs);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *program_source(PyObject *object, PyObject *args) {
    int index;
    if (!PyArg_ParseTuple(args, "i:source", &index))
        return NULL;
    char *text = NULL;
    sg_status status = sg_program_source(((sgpy_program *)object)->program, index, &text);
    if (status != SG_INVALID)
        return status == SG_OK ? sgpy_take_string(text) : sgpy_raise(status, NULL);
    PyErr_Format(PyExc_IndexError, "the program has no launch %d", index);
    return NULL;
}

static PyObject *program_explain(PyObject *object, PyObject *unused) {
    (void)unused;
    char *text = NULL;
    sg_status status = sg_program_explain(((sgpy_program *)object)->program, &text);
    return status == SG_OK ? sgpy_take_string(text) : sgpy_raise(status, NULL);
}

static PyObject *program_work(PyObject *object, PyObject *unused) {
    (void)unused;
    sg_work work = sg_program_work(((sgpy_program *)object)->program);
    return Py_BuildValue("{sdsdsLsi}", "flops", work.flops, "bytes", work.bytes, "scratch_bytes",
                         (long long)work.scratch_bytes, "kernels", work.kernels);
}

static PyObject *program_layouts(const sg_program *program, int count,
                                 const sg_layout *(*layout)(const sg_program *, int)) {
    PyObject *layouts = PyTuple_New(count);
    for (int i = 0; layouts && i < count; i++) {
        PyObject *item = sgpy_layout_to(layout(program, i));
        if (!item || PyTuple_SetItem(layouts, i, item) < 0)
            Py_CLEAR(layouts);
    }
    return layouts;
}

static PyObject *program_workspace(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromLongLong(sg_program_workspace(((sgpy_program *)object)->program));
}

static PyObject *program_inputs(PyObject *object, void *unused) {
    (void)unused;
    const sg_program *program = ((sgpy_program *)object)->program;
    return program_layouts(program, sg_program_input_count(program), sg_program_input);
}

static PyObject *program_outputs(PyObject *object, void *unused) {
    (void)unused;
    const sg_program *program = ((sgpy_program *)object)->program;
    return program_layouts(program, sg_program_output_count(program), sg_program_output);
}

static PyMethodDef methods[] = {
    {"run", program_run, METH_VARARGS,
     "run(inputs, outputs, threads=0): runs on addresses of memory laid out as compiled."},
    {"build", program_build, METH_VARARGS,
     "build(device=-1): builds the program's kernels and loads them on a device; -1: builds "
     "alone."},
    {"launch", program_launch, METH_VARARGS,
     "launch(device, stream, inputs, outputs, workspace=0): enqueues the program on a stream of a "
     "device; all but device are addresses."},
    {"source", program_source, METH_VARARGS,
     "source(index): the text of one launch's kernel; IndexError past the last."},
    {"explain", program_explain, METH_NOARGS, "What the program does, for people."},
    {"work", program_work, METH_NOARGS, "flops, bytes, scratch_bytes and kernels of one run."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"inputs", program_inputs, NULL, "Layouts of the inputs.", NULL},
    {"outputs", program_outputs, NULL, "Layouts of the outputs.", NULL},
    {"workspace", program_workspace, NULL, "Bytes of device memory a launch needs besides.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "Program(graph, inputs, outputs=None, threads=0, isa=None, always=False, tune=False, "
     "gpu=None, precision=None, alignment=0, strategy=None): a graph compiled for layouts (dtype, "
     "sizes, strides). NotApplicable when its host would be faster, unless always."},
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

static PyType_Spec spec = {"segue._core.Program", sizeof(sgpy_program), 0, Py_TPFLAGS_DEFAULT,
                           slots};

int sgpy_add_program(PyObject *module) {
    sgpy_program_type = sgpy_add_type(module, &spec, "Program");
    return sgpy_program_type ? 0 : -1;
}
