# Writes the texts of files as C strings: a table of names and texts, as src/gen/cuda/skeletons.h
# declares it.
#
#   cmake -DOUTPUT=FILE.c -DFILES=A.cuh,B.cuh -P embed.cmake
string(REPLACE "," ";" files "${FILES}")
set(rows "")
set(count 0)
foreach(file IN LISTS files)
    get_filename_component(name "${file}" NAME)
    file(READ "${file}" text)
    string(REPLACE "\\" "\\\\" text "${text}")
    string(REPLACE "\"" "\\\"" text "${text}")
    string(REPLACE "\n" "\\n\"\n     \"" text "${text}")
    string(APPEND rows "    {\"${name}\",\n     \"${text}\"},\n")
    math(EXPR count "${count} + 1")
endforeach()
file(WRITE "${OUTPUT}" "/* Made by cmake/embed.cmake from kernels/cuda. */
#include \"gen/cuda/skeletons.h\"

const sg_skeleton sg_skeletons[] = {
${rows}};
const int sg_skeleton_count = ${count};
")
