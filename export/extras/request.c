/* Calls serving_default of the SavedModel through TensorFlow's C API.

   Usage: request FOLDER $arguments

   FOLDER contains saved_model.pb. The model card (README.md) in FOLDER shows how to compile this program. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

/* The names that clients use, each with its graph operation and output number. */
typedef struct {
    const char *name, *operation;
    int number;
} Name;

static const Name INPUTS[] = {
$inputs,
};
static const Name OUTPUTS[] = {
$outputs,
};
enum { NUM_INPUTS = sizeof INPUTS / sizeof *INPUTS, NUM_OUTPUTS = sizeof OUTPUTS / sizeof *OUTPUTS };

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static const char *next(int argc, char **argv, int *at) {
    if (*at >= argc) fail("usage", "request FOLDER $arguments");
    return argv[(*at)++];
}

static TF_Tensor *string_tensor(const char *bytes, size_t length) {
    const int64_t shape[] = {1};
    TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, shape, 1, sizeof(TF_TString));
    TF_TString_Init(TF_TensorData(tensor));
    TF_TString_Copy(TF_TensorData(tensor), bytes, length);
    return tensor;
}

static inline TF_Tensor *text_tensor(const char *text) { return string_tensor(text, strlen(text)); }

static inline TF_Tensor *file_tensor(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path, "cannot be read");
    fseek(file, 0, SEEK_END);
    const long length = ftell(file);
    rewind(file);
    char *content = malloc(length > 0 ? (size_t)length : 1);
    if (length < 0 || !content || fread(content, 1, (size_t)length, file) != (size_t)length) fail(path, "cannot be read");
    fclose(file);
    TF_Tensor *tensor = string_tensor(content, (size_t)length);
    free(content);
    return tensor;
}

/* Reads as many numbers as the shape requires; a size of -1 reads all remaining numbers. */
static inline TF_Tensor *number_tensor(int argc, char **argv, int *at, TF_DataType type, int64_t *shape, int rank) {
    const int64_t left = argc - *at;
    int64_t count = 1;
    int open = -1;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) open = i;
        else count *= shape[i];
    }
    if (open >= 0) count *= shape[open] = left / count;
    if (count == 0 || count > left) fail("usage", "too few numbers");
    TF_Tensor *tensor = TF_AllocateTensor(type, shape, rank, (size_t)count * TF_DataTypeSize(type));
    void *data = TF_TensorData(tensor);
    for (int64_t i = 0; i < count; i++) {
        const char *word = argv[(*at)++];
        char *end = NULL;
        const long long whole = strtoll(word, &end, 10);
        const double number = type == TF_FLOAT ? strtof(word, &end) : type == TF_DOUBLE ? strtod(word, &end) : 0;
        if (end == word || *end != '\0') fail("not a number", word);
        switch (type) {
            case TF_FLOAT: ((float *)data)[i] = (float)number; break;
            case TF_DOUBLE: ((double *)data)[i] = number; break;
            case TF_INT8: ((int8_t *)data)[i] = (int8_t)whole; break;
            case TF_INT16: ((int16_t *)data)[i] = (int16_t)whole; break;
            case TF_INT32: ((int32_t *)data)[i] = (int32_t)whole; break;
            case TF_UINT8: case TF_BOOL: ((uint8_t *)data)[i] = (uint8_t)whole; break;
            case TF_UINT16: ((uint16_t *)data)[i] = (uint16_t)whole; break;
            default: ((int64_t *)data)[i] = whole;
        }
    }
    return tensor;
}

static void print_tensor(const char *name, const TF_Tensor *tensor) {
    const int64_t count = TF_TensorElementCount(tensor);
    const void *data = TF_TensorData(tensor);
    printf("%s:", name);
    for (int64_t i = 0; i < count && i < 20; i++) {
        switch (TF_TensorType(tensor)) {
            case TF_STRING: {
                const TF_TString *s = (const TF_TString *)data + i;
                printf(" %.*s", (int)TF_TString_GetSize(s), TF_TString_GetDataPointer(s));
                break;
            }
            case TF_FLOAT: printf(" %.7g", ((const float *)data)[i]); break;
            case TF_DOUBLE: printf(" %.15g", ((const double *)data)[i]); break;
            case TF_INT8: printf(" %d", ((const int8_t *)data)[i]); break;
            case TF_INT16: printf(" %d", ((const int16_t *)data)[i]); break;
            case TF_UINT8: case TF_BOOL: printf(" %d", ((const uint8_t *)data)[i]); break;
            case TF_UINT16: printf(" %d", ((const uint16_t *)data)[i]); break;
            case TF_INT32: printf(" %" PRId32, ((const int32_t *)data)[i]); break;
            case TF_INT64: printf(" %" PRId64, ((const int64_t *)data)[i]); break;
            default: printf(" ?");
        }
    }
    printf(count > 20 ? " ... (%" PRId64 " values)\n" : "\n", count);
}

int main(int argc, char **argv) {
    int at = 1;
    const char *folder = next(argc, argv, &at);
    TF_Tensor *values[NUM_INPUTS], *answers[NUM_OUTPUTS] = {0};
    $values
    if (at < argc) fail("usage", "too many arguments: request FOLDER $arguments");

    TF_Status *status = TF_NewStatus();
    TF_Graph *graph = TF_NewGraph();
    TF_SessionOptions *options = TF_NewSessionOptions();
    const char *tags[] = {"serve"};
    TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, folder, tags, 1, graph, NULL, status);
    if (TF_GetCode(status) != TF_OK) fail(folder, TF_Message(status));

    TF_Output inputs[NUM_INPUTS], outputs[NUM_OUTPUTS];
    for (int i = 0; i < NUM_INPUTS; i++) {
        inputs[i] = (TF_Output){TF_GraphOperationByName(graph, INPUTS[i].operation), INPUTS[i].number};
        if (!inputs[i].oper) fail(INPUTS[i].operation, "is not an operation of this SavedModel");
    }
    for (int i = 0; i < NUM_OUTPUTS; i++) {
        outputs[i] = (TF_Output){TF_GraphOperationByName(graph, OUTPUTS[i].operation), OUTPUTS[i].number};
        if (!outputs[i].oper) fail(OUTPUTS[i].operation, "is not an operation of this SavedModel");
    }
    TF_SessionRun(session, NULL, inputs, values, NUM_INPUTS, outputs, answers, NUM_OUTPUTS, NULL, 0, NULL, status);
    if (TF_GetCode(status) != TF_OK) fail("request rejected", TF_Message(status));
    for (int i = 0; i < NUM_OUTPUTS; i++) print_tensor(OUTPUTS[i].name, answers[i]);

    for (int i = 0; i < NUM_INPUTS; i++) {
        if (TF_TensorType(values[i]) == TF_STRING) TF_TString_Dealloc(TF_TensorData(values[i]));
        TF_DeleteTensor(values[i]);
    }
    for (int i = 0; i < NUM_OUTPUTS; i++) TF_DeleteTensor(answers[i]);
    TF_CloseSession(session, status);
    TF_DeleteSession(session, status);
    TF_DeleteSessionOptions(options);
    TF_DeleteGraph(graph);
    TF_DeleteStatus(status);
    return 0;
}
