/* Running a prepared program on a call's tensors.
 *
 * On a GPU it is enqueued on the stream that is current, for the calling thread, on the tensors'
 * device, as PyTorch's own operators are, and results come from PyTorch's allocator: so streams,
 * graphs and other threads see what they are used to. */
#include "_calls.h"

static PyObject *text_data_ptr;

void *sgpy_address_of(PyObject *tensor) {
    PyObject *value = PyObject_CallMethodObjArgs(tensor, text_data_ptr, NULL);
    void *address = value ? PyLong_AsVoidPtr(value) : NULL;
    Py_XDECREF(value);
    return address;
}

int sgpy_is_true_now(PyObject *function) {
    PyObject *value = PyObject_CallNoArgs(function);
    int result = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return result;
}

/* A new tensor. how: (arguments, keywords) of torch.empty_strided, and for GPUs the arguments of
 * its quicker twin, which makes it on the current device. NULL with an exception set. */
static PyObject *allocate(const calls *self, PyObject *how, int quick, void **address) {
    PyObject *made =
        quick && PyTuple_Size(how) > 2
            ? PyObject_Call(self->gpu[EMPTY_STRIDED], PyTuple_GetItem(how, 2), NULL)
            : PyObject_Call(self->empty_strided, PyTuple_GetItem(how, 0), PyTuple_GetItem(how, 1));
    *address = made ? sgpy_address_of(made) : NULL;
    if (!*address && PyErr_Occurred())
        Py_CLEAR(made);
    return made;
}

/* New outputs in a list, and their addresses. */
static PyObject *make_outputs(const calls *self, const entry *chosen, int quick, void **addresses) {
    Py_ssize_t count = PyTuple_Size(chosen->fields[OUTPUTS]);
    PyObject *results = PyList_New(0);
    for (Py_ssize_t i = 0; results && i < count; i++) {
        PyObject *how = PyTuple_GetItem(chosen->fields[OUTPUTS], i);
        PyObject *made = allocate(self, how, quick, &addresses[i]);
        if (!made || PyList_Append(results, made) < 0)
            Py_CLEAR(results);
        Py_XDECREF(made);
    }
    return results;
}

static int run_here(const calls *self, const sg_program *program, const void *const *inputs,
                    void *const *outputs) {
    PyObject *threads = PyObject_CallNoArgs(self->get_num_threads);
    long count = threads ? PyLong_AsLong(threads) : -1;
    Py_XDECREF(threads);
    if (count == -1 && PyErr_Occurred())
        return -1;
    sg_status status;
    Py_BEGIN_ALLOW_THREADS status = sg_program_run(program, inputs, outputs, (int)count);
    Py_END_ALLOW_THREADS if (status == SG_OK) return 0;
    sgpy_raise(status, NULL);
    return -1;
}

/* A workspace for a launch on a stream. A small one is kept for the next call of this thread on
 * this stream, which the GPU runs after this one; not while a graph is captured, which is run again
 * whenever. A new one may go as soon as the launch is enqueued: the allocator hands its memory out
 * again on the same stream alone. */
static PyObject *make_workspace(const calls *self, const entry *chosen, PyObject *stream, int quick,
                                void **address) {
    PyObject *of_thread = quick ? PyThreadState_GetDict() : NULL; /* borrowed */
    PyObject *key =
        PyTuple_Size(chosen->workspace) > 3 ? PyTuple_GetItem(chosen->workspace, 3) : NULL;
    if (!of_thread || !key || sgpy_is_true_now(self->gpu[IS_CAPTURING]) != 0)
        return PyErr_Clear(), allocate(self, chosen->workspace, quick, address);
    PyObject *kept = Py_XNewRef(PyDict_GetItemWithError(of_thread, key)); /* by stream */
    if (!kept && !PyErr_Occurred()) {
        kept = PyDict_New();
        if (kept && PyDict_SetItem(of_thread, key, kept) < 0)
            Py_CLEAR(kept);
    }
    PyObject *found = kept ? Py_XNewRef(PyDict_GetItemWithError(kept, stream)) : NULL;
    PyErr_Clear(); /* nothing is kept then */
    if (found) {
        *address = sgpy_address_of(found);
    } else {
        found = allocate(self, chosen->workspace, quick, address);
        if (found && kept && PyDict_SetItem(kept, stream, found) < 0)
            PyErr_Clear();
    }
    Py_XDECREF(kept);
    return found;
}

/* Whether PyTorch's quicker functions, which know the current device alone, will do. */
static int may_be_quick(const calls *self, const entry *chosen) {
    if (chosen->device < 0 || self->gpu[EMPTY_STRIDED] == Py_None)
        return 0;
    PyObject *device = PyObject_CallNoArgs(self->gpu[CURRENT_DEVICE]);
    int same = device && PyLong_AsLong(device) == chosen->device;
    Py_XDECREF(device);
    PyErr_Clear();
    return same;
}

static int run_on_gpu(const calls *self, const entry *chosen, int quick, const void *const *inputs,
                      void *const *outputs) {
    const sg_program *program = ((sgpy_program *)chosen->fields[PROGRAM])->program;
    PyObject *device = PyLong_FromLong(chosen->device);
    PyObject *stream =
        device ? PyObject_CallFunctionObjArgs(self->gpu[RAW_STREAM], device, NULL) : NULL;
    Py_XDECREF(device);
    void *queue = stream ? PyLong_AsVoidPtr(stream) : NULL, *scratch = NULL;
    PyObject *workspace = NULL;
    int failed = !queue && PyErr_Occurred();
    if (!failed && chosen->workspace) {
        workspace = make_workspace(self, chosen, stream, quick, &scratch);
        failed = !workspace;
    }
    if (!failed)
        failed = sgpy_launch(program, chosen->device, queue, inputs, outputs, scratch);
    Py_XDECREF(workspace);
    Py_XDECREF(stream);
    return failed;
}

PyObject *sgpy_run_program(const calls *self, const entry *chosen, const call *now) {
    const void *inputs[TENSORS_MAX + 1];
    void *outputs[OUTPUTS_MAX + 1];
    for (int i = 0; i < chosen->input_count; i++) {
        int index = chosen->binding[i];
        PyObject *tensor =
            index >= 0 ? now->values[index] : PyTuple_GetItem(chosen->fields[TENSORS], -1 - index);
        inputs[i] = sgpy_address_of(tensor);
        if (!inputs[i] && PyErr_Occurred())
            return NULL;
    }
    int quick = may_be_quick(self, chosen);
    PyObject *results = make_outputs(self, chosen, quick, outputs);
    if (!results)
        return NULL;
    const sg_program *program = ((sgpy_program *)chosen->fields[PROGRAM])->program;
    int failed = chosen->device < 0 ? run_here(self, program, inputs, outputs)
                                    : run_on_gpu(self, chosen, quick, inputs, outputs);
    PyObject *result = NULL;
    if (!failed && chosen->fields[REBUILD] == Py_None)
        result = Py_NewRef(PyList_GetItem(results, 0));
    else if (!failed)
        result = PyObject_CallFunctionObjArgs(chosen->fields[REBUILD], results, NULL);
    Py_DECREF(results);
    return result;
}

int sgpy_start_running(void) {
    text_data_ptr = PyUnicode_InternFromString("data_ptr");
    return text_data_ptr ? 0 : -1;
}
