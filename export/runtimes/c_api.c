/* Runs signatures of a SavedModel through TensorFlow's C API: c_api MODEL REQUESTS ANSWERS
 *
 * REQUESTS and ANSWERS are binary files in the machine's byte order (little-endian). All counts and sizes are int64.
 *
 *   requests: number of runs; for each run: number of inputs, each a name and a tensor; number of outputs, each a name
 *   answers:  for each run, for each output in order: a tensor
 *   name:     length, bytes of "NODE:INDEX"
 *   tensor:   type (of TF_DataType), number of dimensions, dimensions, and its elements: for numbers the number of
 *             bytes and the bytes, for strings the length and the bytes of each
 *
 * Prints LOADED when the model is loaded, and TensorFlow's version at the end. On an error, it prints one line on
 * standard error and exits with status 1.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <signal.h>
#include <sys/prctl.h>
#endif

#include "tensorflow/c/c_api.h"

#define LIMIT 64

static void fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static void read_bytes(FILE* file, void* data, size_t size) {
  if (size && fread(data, 1, size, file) != size) fail("requests", "end too early");
}

static int64_t read_number(FILE* file) {
  int64_t number;
  read_bytes(file, &number, sizeof number);
  return number;
}

static void write_bytes(FILE* file, const void* data, size_t size) {
  if (size && fwrite(data, 1, size, file) != size) fail("answers", "cannot be written");
}

static void write_number(FILE* file, int64_t number) { write_bytes(file, &number, sizeof number); }

static TF_Output read_output(FILE* file, TF_Graph* graph) {
  char name[4096];
  int64_t length = read_number(file);
  if (length < 0 || length >= (int64_t)sizeof name) fail("requests", "a name is too long");
  read_bytes(file, name, length);
  name[length] = 0;
  char* colon = strrchr(name, ':');
  TF_Output output = {NULL, 0};
  if (colon) {
    output.index = atoi(colon + 1);
    *colon = 0;
  }
  output.oper = TF_GraphOperationByName(graph, name);
  if (!output.oper) fail(name, "is not a node of the graph");
  return output;
}

static int64_t count(const int64_t* dims, int rank) {
  int64_t size = 1;
  for (int i = 0; i < rank; ++i) size *= dims[i];
  return size;
}

static TF_Tensor* read_tensor(FILE* file) {
  TF_DataType type = (TF_DataType)read_number(file);
  int rank = (int)read_number(file);
  int64_t dims[LIMIT];
  if (rank < 0 || rank > LIMIT) fail("requests", "too many dimensions");
  read_bytes(file, dims, rank * sizeof *dims);
  if (type != TF_STRING) {
    int64_t size = read_number(file);
    TF_Tensor* tensor = TF_AllocateTensor(type, dims, rank, size);
    read_bytes(file, TF_TensorData(tensor), size);
    return tensor;
  }
  int64_t elements = count(dims, rank);
  TF_Tensor* tensor = TF_AllocateTensor(type, dims, rank, elements * sizeof(TF_TString));
  TF_TString* strings = TF_TensorData(tensor);
  for (int64_t i = 0; i < elements; ++i) {
    int64_t length = read_number(file);
    char* text = malloc(length + 1);
    if (!text) fail("requests", "a string is too long");
    read_bytes(file, text, length);
    TF_StringInit(&strings[i]);
    TF_StringCopy(&strings[i], text, length);
    free(text);
  }
  return tensor;
}

static void write_tensor(FILE* file, TF_Tensor* tensor) {
  int rank = TF_NumDims(tensor);
  int64_t elements = TF_TensorElementCount(tensor);
  write_number(file, TF_TensorType(tensor));
  write_number(file, rank);
  for (int i = 0; i < rank; ++i) write_number(file, TF_Dim(tensor, i));
  if (TF_TensorType(tensor) != TF_STRING) {
    write_number(file, TF_TensorByteSize(tensor));
    write_bytes(file, TF_TensorData(tensor), TF_TensorByteSize(tensor));
    return;
  }
  TF_TString* strings = TF_TensorData(tensor);
  for (int64_t i = 0; i < elements; ++i) {
    write_number(file, TF_StringGetSize(&strings[i]));
    write_bytes(file, TF_StringGetDataPointer(&strings[i]), TF_StringGetSize(&strings[i]));
  }
}

static void run(TF_Session* session, TF_Graph* graph, FILE* requests, FILE* answers, TF_Status* status) {
  TF_Output inputs[LIMIT], outputs[LIMIT];
  TF_Tensor *given[LIMIT], *got[LIMIT];
  int64_t takes = read_number(requests);
  if (takes < 0 || takes > LIMIT) fail("requests", "too many inputs");
  for (int64_t i = 0; i < takes; ++i) {
    inputs[i] = read_output(requests, graph);
    given[i] = read_tensor(requests);
  }
  int64_t answered = read_number(requests);
  if (answered < 0 || answered > LIMIT) fail("requests", "too many outputs");
  for (int64_t i = 0; i < answered; ++i) outputs[i] = read_output(requests, graph);
  TF_SessionRun(session, NULL, inputs, given, (int)takes, outputs, got, (int)answered, NULL, 0, NULL, status);
  check(status, "run");
  for (int64_t i = 0; i < answered; ++i) {
    write_tensor(answers, got[i]);
    TF_DeleteTensor(got[i]);
  }
  for (int64_t i = 0; i < takes; ++i) TF_DeleteTensor(given[i]);
}

int main(int argc, char** argv) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (argc != 4) fail("usage", "c_api MODEL REQUESTS ANSWERS");
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, "load");
  printf("LOADED\n");
  fflush(stdout);
  FILE* requests = fopen(argv[2], "rb");
  FILE* answers = fopen(argv[3], "wb");
  if (!requests || !answers) fail("files", "cannot be opened");
  for (int64_t runs = read_number(requests); runs > 0; --runs) run(session, graph, requests, answers, status);
  if (fclose(answers)) fail("answers", "cannot be written");
  fclose(requests);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  printf("%s\n", TF_Version());
  return 0;
}
