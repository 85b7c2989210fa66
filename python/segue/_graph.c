/* Graph: a graph of the library's with a context of its own. All calls hold the interpreter's lock,
 * which keeps a context with one thread at a time. */
#include "_core.h"

#include <string.h>

PyTypeObject *sgpy_graph_type;

static PyObject *graph_from_text(const char *text, size_t length) {
    allocfunc allocate = (allocfunc)PyType_GetSlot(sgpy_graph_type, Py_tp_alloc);
    sgpy_graph *self = (sgpy_graph *)allocate(sgpy_graph_type, 0);
    if (!self)
        return NULL;
    sg_status status = sg_context_create(&self->context);
    if (status == SG_OK)
        status = sg_graph_parse(self->context, text, length, &self->graph);
    if (status == SG_OK)
        return (PyObject *)self;
    sgpy_raise(status, self->context);
    Py_DECREF(self);
    return NULL;
}

static PyObject *graph_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)type;
    static char *names[] = {"text", NULL};
    const char *text;
    Py_ssize_t length;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s#:Graph", names, &text, &length))
        return NULL;
    return graph_from_text(text, (size_t)length);
}

static void graph_dealloc(PyObject *object) {
    sgpy_graph *self = (sgpy_graph *)object;
    PyTypeObject *type = Py_TYPE(object);
    sg_graph_destroy(self->graph);
    sg_context_destroy(self->context);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *print_graph(const sg_graph *graph, const sg_context *context) {
    char *text = NULL;
    sg_status status = sg_graph_print(graph, &text);
    return status == SG_OK ? sgpy_take_string(text) : sgpy_raise(status, context);
}

static PyObject *graph_text(PyObject *object, PyObject *unused) {
    (void)unused;
    sgpy_graph *self = (sgpy_graph *)object;
    return print_graph(self->graph, self->context);
}

static PyObject *graph_dump(PyObject *object, PyObject *args) {
    sgpy_graph *self = (sgpy_graph *)object;
    const char *stage;
    PyObject *sequence = Py_None;
    if (!PyArg_ParseTuple(args, "s|O:dump", &stage, &sequence))
        return NULL;
    sg_layout *layouts;
    int count;
    if (sgpy_layouts_from(sequence, &layouts, &count) < 0)
        return NULL;
    char *text = NULL;
    sg_status status = sg_graph_dump(self->graph, stage, layouts, count, &text);
    PyMem_Free(layouts);
    return status == SG_OK ? sgpy_take_string(text) : sgpy_raise(status, self->context);
}

static PyObject *names_of(const sg_graph *graph, const sg_value *values, int count) {
    PyObject *names = PyTuple_New(count);
    for (int i = 0; names && i < count; i++) {
        PyObject *name = PyUnicode_FromString(sg_graph_value_name(graph, values[i]));
        if (!name || PyTuple_SetItem(names, i, name) < 0)
            Py_CLEAR(names);
    }
    return names;
}

static PyObject *input_names(const sg_graph *graph) {
    int count = sg_graph_input_count(graph);
    sg_value *values = PyMem_Calloc((size_t)count + 1, sizeof *values);
    if (!values)
        return PyErr_NoMemory();
    for (int i = 0; i < count; i++)
        values[i] = sg_graph_input(graph, i);
    PyObject *names = names_of(graph, values, count);
    PyMem_Free(values);
    return names;
}

static PyObject *output_names(const sg_graph *graph) {
    int count = sg_graph_output_count(graph);
    sg_value *values = PyMem_Calloc((size_t)count + 1, sizeof *values);
    if (!values)
        return PyErr_NoMemory();
    for (int i = 0; i < count; i++)
        values[i] = sg_graph_output(graph, i);
    PyObject *names = names_of(graph, values, count);
    PyMem_Free(values);
    return names;
}

static PyObject *graph_inputs(PyObject *object, void *unused) {
    (void)unused;
    return input_names(((sgpy_graph *)object)->graph);
}

static PyObject *graph_outputs(PyObject *object, void *unused) {
    (void)unused;
    return output_names(((sgpy_graph *)object)->graph);
}

static PyObject *graph_infer(PyObject *object, PyObject *sequence) {
    sgpy_graph *self = (sgpy_graph *)object;
    sg_layout *layouts;
    int count;
    if (sgpy_layouts_from(sequence, &layouts, &count) < 0)
        return NULL;
    int outputs = sg_graph_output_count(self->graph);
    sg_layout *inferred = PyMem_Calloc((size_t)outputs + 1, sizeof *inferred);
    PyObject *result = NULL;
    if (!inferred) {
        PyErr_NoMemory();
    } else {
        sg_status status = sg_graph_infer(self->graph, layouts, count, inferred);
        result = status == SG_OK ? PyTuple_New(outputs) : sgpy_raise(status, self->context);
    }
    for (int i = 0; result && i < outputs; i++) {
        PyObject *layout = sgpy_layout_to(&inferred[i]);
        if (!layout || PyTuple_SetItem(result, i, layout) < 0)
            Py_CLEAR(result);
    }
    PyMem_Free(layouts);
    PyMem_Free(inferred);
    return result;
}

/* (foreign, tag, input names, output names, Graph or None, reason). A region's graph is read back
 * from its text, so that it does not depend on the partition it came from. */
static PyObject *step_to(const sg_graph *whole, const sg_step *step, const sg_context *context) {
    PyObject *inputs = names_of(whole, step->inputs, step->input_count);
    PyObject *outputs = names_of(whole, step->outputs, step->output_count);
    PyObject *region = NULL;
    if (step->foreign) {
        region = Py_NewRef(Py_None);
    } else {
        PyObject *text = print_graph(step->graph, context);
        Py_ssize_t length;
        const char *bytes = text ? PyUnicode_AsUTF8AndSize(text, &length) : NULL;
        if (bytes)
            region = graph_from_text(bytes, (size_t)length);
        Py_XDECREF(text);
    }
    if (!inputs || !outputs || !region) {
        Py_XDECREF(inputs);
        Py_XDECREF(outputs);
        Py_XDECREF(region);
        return NULL;
    }
    return Py_BuildValue("(NLNNNs)", PyBool_FromLong(step->foreign), (long long)step->tag, inputs,
                         outputs, region, step->reason);
}

static PyObject *graph_partition(PyObject *object, PyObject *unused) {
    (void)unused;
    sgpy_graph *self = (sgpy_graph *)object;
    sg_partition *partition = NULL;
    sg_status status = sg_partition_create(self->graph, &partition);
    if (status != SG_OK)
        return sgpy_raise(status, self->context);
    const sg_graph *whole = sg_partition_graph(partition);
    int count = sg_partition_step_count(partition);
    PyObject *steps = PyTuple_New(count);
    for (int i = 0; steps && i < count; i++) {
        PyObject *step = step_to(whole, sg_partition_step(partition, i), self->context);
        if (!step || PyTuple_SetItem(steps, i, step) < 0)
            Py_CLEAR(steps);
    }
    PyObject *inputs = steps ? input_names(whole) : NULL;
    PyObject *outputs = steps ? output_names(whole) : NULL;
    PyObject *result = inputs && outputs ? PyTuple_Pack(3, steps, inputs, outputs) : NULL;
    Py_XDECREF(steps);
    Py_XDECREF(inputs);
    Py_XDECREF(outputs);
    sg_partition_destroy(partition);
    return result;
}

static int part_from(const char *name, sg_emit_part *part) {
    static const char *const parts[] = {"unit", "header", "source", "cmake"};
    for (int i = 0; i < 4; i++) {
        *part = (sg_emit_part)i;
        if (strcmp(name, parts[i]) == 0)
            return 0;
    }
    PyErr_Format(sgpy_error, "no part is called \"%s\"; there are unit, header, source and cmake",
                 name);
    return -1;
}

static PyObject *graph_emit(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"inputs",    "name",      "part", "outputs",  "gpu",
                            "precision", "alignment", "tune", "strategy", NULL};
    sgpy_graph *self = (sgpy_graph *)object;
    PyObject *inputs, *outputs = Py_None, *result = NULL;
    const char *name, *part_name = "unit";
    sg_compile_options options = {0};
    sg_emit_part part;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|sOzzipz:emit", names, &inputs, &name,
                                     &part_name, &outputs, &options.gpu, &options.precision,
                                     &options.alignment, &options.tune, &options.strategy) ||
        part_from(part_name, &part) < 0)
        return NULL;
    sg_layout *in = NULL, *out = NULL;
    int in_count, out_count;
    if (sgpy_layouts_from(inputs, &in, &in_count) == 0 &&
        sgpy_layouts_from(outputs, &out, &out_count) == 0) {
        if (out && out_count != sg_graph_output_count(self->graph)) {
            PyErr_Format(sgpy_error, "%d output layouts for %d outputs, as many are needed",
                         out_count, sg_graph_output_count(self->graph));
        } else {
            char *text = NULL;
            options.outputs = out;
            sg_status status = sg_emit_cuda(self->graph, in, in_count, &options, name, part, &text);
            result = status == SG_OK ? sgpy_take_string(text) : sgpy_raise(status, self->context);
        }
    }
    PyMem_Free(in);
    PyMem_Free(out);
    return result;
}

static PyObject *graph_emit_c(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"inputs", "name", "part", NULL};
    sgpy_graph *self = (sgpy_graph *)object;
    PyObject *inputs, *result = NULL;
    const char *name, *part_name = "unit";
    sg_emit_part part;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|s:emit_c", names, &inputs, &name,
                                     &part_name) ||
        part_from(part_name, &part) < 0)
        return NULL;
    sg_layout *in = NULL;
    int in_count;
    if (sgpy_layouts_from(inputs, &in, &in_count) == 0) {
        char *text = NULL;
        sg_status status = sg_emit_c(self->graph, in, in_count, name, part, &text);
        result = status == SG_OK ? sgpy_take_string(text) : sgpy_raise(status, self->context);
    }
    PyMem_Free(in);
    return result;
}

static PyObject *graph_reference(PyObject *object, PyObject *args) {
    sgpy_graph *self = (sgpy_graph *)object;
    PyObject *sequence, *in, *out;
    if (!PyArg_ParseTuple(args, "OOO:reference", &sequence, &in, &out))
        return NULL;
    sg_layout *layouts = NULL;
    void **inputs = NULL, **outputs = NULL;
    int count, input_count, output_count;
    PyObject *result = NULL;
    if (sgpy_layouts_from(sequence, &layouts, &count) == 0 &&
        sgpy_pointers_from(in, &inputs, &input_count) == 0 &&
        sgpy_pointers_from(out, &outputs, &output_count) == 0) {
        if (input_count != count || output_count != sg_graph_output_count(self->graph)) {
            PyErr_SetString(sgpy_error, "as many addresses as inputs and outputs are needed");
        } else {
            sg_status status =
                sg_reference_run(self->graph, layouts, count, (const double *const *)inputs,
                                 (double *const *)outputs);
            result = status == SG_OK ? Py_NewRef(Py_None) : sgpy_raise(status, self->context);
        }
    }
    PyMem_Free(layouts);
    PyMem_Free(inputs);
    PyMem_Free(outputs);
    return result;
}

static PyMethodDef methods[] = {
    {"text", graph_text, METH_NOARGS, "The text form."},
    {"dump", graph_dump, METH_VARARGS, "dump(stage, layouts=None): the pipeline up to a stage."},
    {"infer", graph_infer, METH_O, "infer(layouts): layouts of the outputs, contiguous."},
    {"partition", graph_partition, METH_NOARGS,
     "(steps, input names, output names); a step is (foreign, tag, input names, output names, "
     "Graph "
     "or None, reason)."},
    {"emit", (PyCFunction)(void (*)(void))graph_emit, METH_VARARGS | METH_KEYWORDS,
     "emit(inputs, name, part=\"unit\", outputs=None, gpu=None, precision=None, alignment=0, "
     "tune=False, strategy=None): CUDA source to keep; parts are unit, header, source, cmake."},
    {"emit_c", (PyCFunction)(void (*)(void))graph_emit_c, METH_VARARGS | METH_KEYWORDS,
     "emit_c(inputs, name, part=\"unit\"): its regions as C source for a CPU."},
    {"reference", graph_reference, METH_VARARGS,
     "reference(layouts, inputs, outputs): runs in float64 on addresses of contiguous doubles."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"inputs", graph_inputs, NULL, "Names of the inputs, in order.", NULL},
    {"outputs", graph_outputs, NULL, "Names of the outputs, in order.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Graph(text): a graph read from its text form."},
    {Py_tp_new, graph_new},
    {Py_tp_dealloc, graph_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

static PyType_Spec spec = {"segue._core.Graph", sizeof(sgpy_graph), 0, Py_TPFLAGS_DEFAULT, slots};

int sgpy_add_graph(PyObject *module) {
    sgpy_graph_type = sgpy_add_type(module, &spec, "Graph");
    return sgpy_graph_type ? 0 : -1;
}
