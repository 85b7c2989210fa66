# Writes the texts of files as C strings: a table of names and texts, as a header of src/ declares it
# (gen/cuda/skeletons.h, gen/c/pieces.h).
#
#   cmake -DOUTPUT=FILE.c -DFILES=A.cuh,B.cuh -DHEADER=gen/cuda/skeletons.h -DROW=sg_skeleton
#         -P embed.cmake
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
file(WRITE "${OUTPUT}" "/* Made by cmake/embed.cmake. */
#include \"${HEADER}\"

const ${ROW} ${ROW}s[] = {
${rows}};
const int ${ROW}_count = ${count};
")
