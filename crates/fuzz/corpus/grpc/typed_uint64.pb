
modelid*
xUINT64**
ÿÿÿÿÿÿÿÿÿ