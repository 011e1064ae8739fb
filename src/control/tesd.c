#include "control.h"

int main(int argc, char **argv)
{
	return control_main(argc, argv);
}
