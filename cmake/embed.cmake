# Makes a C array of files, one after another: cmake -DNAME=x -DHEADER=h -DFILES=a,b -DOUT=c -P embed.cmake
set(hex "")
string(REPLACE "," ";" FILES "${FILES}")
foreach(file ${FILES})
  file(READ ${file} part HEX)
  string(APPEND hex "${part}")
endforeach()
string(LENGTH "${hex}" digits)
math(EXPR bytes "${digits} / 2")
string(REGEX REPLACE "(..)" "0x\\1," list "${hex}")
string(REGEX REPLACE "(................................................................................)"
       "\\1\n" list "${list}")
file(WRITE ${OUT} "#include \"${HEADER}\"\n\nconst unsigned char ${NAME}[] = {\n${list}};\n"
     "const size_t ${NAME}_bytes = ${bytes};\n")
